"""The application: loads plugins, lets them add commands, and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import print_error, print_trace, print_warning, without_progress
from toolkit.cli.exit_status import BAD_INPUT, CHECK_FAILED
from toolkit.errors import GPU_FAILURE, CheckFailed, InputError
from toolkit.plugin.manager import PluginManager
from toolkit.text import one_line
from toolkit.versions import PACKAGE, package_version

PROGRAM = "uniad-toolkit"
TRACE_VARIABLE = "UNIAD_TOOLKIT_TRACE"


@dataclass(frozen=True)
class PluginOptions:
    """What the command line says about plugins, and about what is printed."""

    files: tuple[Path, ...] = ()
    disabled: tuple[str, ...] = ()
    strict: bool = False
    quiet: bool = False
    verbose: bool = False


def run_command(arguments: Sequence[str]) -> int:
    """Run one command; 0 done, 1 a check failed, 2 bad input or usage."""
    options = PluginOptions()
    try:
        require_working_folder()
        options, rest = split_plugin_options(arguments)
        traced = options.verbose or os.environ.get(TRACE_VARIABLE, "0") not in ("", "0")
        plugins = PluginManager.load(
            options.files,
            disabled=options.disabled,
            strict=options.strict,
            warn=print_warning,
            trace=print_trace if traced else None,
        )
        command = typer.main.get_command(make_app(plugins))
        with without_progress(options.quiet), naming_paths():
            status = command.main(rest or ["--help"], prog_name=PROGRAM, obj=plugins, standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        message = " ".join(error.format_message().split()).rstrip(".")
        print_error(f"{message}; see `{context.command_path if context else PROGRAM} --help`")
        return BAD_INPUT
    except (InputError, CheckFailed) as error:
        print_error(*error.args)
        if options.verbose:
            print_causes(error)
        return BAD_INPUT if isinstance(error, InputError) else CHECK_FAILED
    except RuntimeError as error:
        if not str(error).startswith(GPU_FAILURE):
            raise
        print_error(f"the GPU cannot go on: {one_line(error)}; free its memory, or run fewer --workers")
        return CHECK_FAILED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return status if isinstance(status, int) else 0


def print_causes(error: BaseException) -> None:
    """Where an error comes from: what was raised before it, and in which line."""
    while (cause := error.__cause__) is not None:
        place = traceback.extract_tb(cause.__traceback__)[-1:]
        where = "".join(f", at {frame.filename}:{frame.lineno}" for frame in place)
        print_trace(f"caused by {one_line(cause)}{where}")
        error = cause


@contextmanager
def naming_paths() -> Iterator[None]:
    """Turns what the system says of a path, such as that its name is too long, into an InputError that names it."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise InputError(f"{error.filename} cannot be used: {error.strerror}; check the path") from error


def require_working_folder() -> None:
    """Raise InputError if the working folder was deleted, for then no relative path means anything."""
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(f"the working folder cannot be used: {error.strerror}; change to another one") from error


def make_app(plugins: PluginManager) -> typer.Typer:
    """The application with every plugin's commands."""
    app = typer.Typer(
        name=PROGRAM,
        help="Convert a trained UniAD-tiny checkpoint, run it over frames, and prove that it is the same network.",
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def options(
        plugin: Annotated[
            list[Path] | None,
            typer.Option(help="Python file with hooks; may stand anywhere, repeatedly."),
        ] = None,
        disable_plugin: Annotated[
            list[str] | None, typer.Option(help="Leave out a plugin; `uniad-toolkit plugins` lists their names.")
        ] = None,
        strict_plugins: Annotated[
            bool, typer.Option("--strict-plugins", help="Stop if an installed plugin fails, rather than skip it.")
        ] = False,
        quiet: Annotated[
            bool, typer.Option("--quiet", help="Print no progress: results, notes, warnings and errors alone.")
        ] = False,
        verbose: Annotated[
            bool, typer.Option("--verbose", help="Also print every hook call, and what an error was caused by.")
        ] = False,
        version: Annotated[
            bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=show_version)
        ] = False,
    ) -> None:
        """Options of every command; plugins have been loaded by now, for they may add commands."""

    plugins.add_commands(app)
    return app


def show_version(wanted: bool) -> None:
    """Print the toolkit's version instead of running a command."""
    if wanted:
        typer.echo(package_version(PACKAGE))
        raise typer.Exit


def split_plugin_options(arguments: Sequence[str]) -> tuple[PluginOptions, list[str]]:
    """Take the options of every command out of the arguments, wherever they stand.

    Raises InputError for a missing value, and for options that contradict each other.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--plugin", action="append", type=Path, default=[])
    parser.add_argument("--disable-plugin", action="append", default=[])
    for flag in ("--strict-plugins", "--quiet", "--verbose"):
        parser.add_argument(flag, action="store_true")
    try:
        known, rest = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise InputError(f"{error.argument_name}: {error.message}; see `uniad-toolkit --help`") from error
    if known.quiet and known.verbose:
        raise InputError("--quiet and --verbose contradict each other; give one of them")
    options = PluginOptions(
        tuple(known.plugin), tuple(known.disable_plugin), known.strict_plugins, known.quiet, known.verbose
    )
    return options, rest
