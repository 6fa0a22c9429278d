"""The application: loads plugins, lets them add commands, and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import print_error, print_trace, print_warning
from toolkit.cli.exit_status import BAD_INPUT, CHECK_FAILED
from toolkit.errors import GPU_FAILURE, CheckFailed, InputError
from toolkit.plugin.manager import PluginManager
from toolkit.text import one_line
from toolkit.versions import PACKAGE, package_version

PROGRAM = "uniad-toolkit"
TRACE_VARIABLE = "UNIAD_TOOLKIT_TRACE"


@dataclass(frozen=True)
class PluginOptions:
    """What the command line says about plugins."""

    files: tuple[Path, ...] = ()
    disabled: tuple[str, ...] = ()
    strict: bool = False


def run_command(arguments: Sequence[str]) -> int:
    """Run one command; 0 done, 1 a check failed, 2 bad input or usage."""
    try:
        require_working_folder()
        options, rest = split_plugin_options(arguments)
        plugins = PluginManager.load(
            options.files,
            disabled=options.disabled,
            strict=options.strict,
            warn=print_warning,
            trace=print_trace if os.environ.get(TRACE_VARIABLE, "0") not in ("", "0") else None,
        )
        command = typer.main.get_command(make_app(plugins))
        status = command.main(rest or ["--help"], prog_name=PROGRAM, obj=plugins, standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        message = " ".join(error.format_message().split()).rstrip(".")
        print_error(f"{message}; see `{context.command_path if context else PROGRAM} --help`")
        return BAD_INPUT
    except InputError as error:
        print_error(*error.args)
        return BAD_INPUT
    except CheckFailed as error:
        print_error(*error.args)
        return CHECK_FAILED
    except RuntimeError as error:
        if not str(error).startswith(GPU_FAILURE):
            raise
        print_error(f"the GPU cannot go on: {one_line(error)}; free its memory, or run fewer --workers")
        return CHECK_FAILED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return status if isinstance(status, int) else 0


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
    """Take the options about plugins out of the arguments, wherever they stand; InputError for a missing value."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--plugin", action="append", type=Path, default=[])
    parser.add_argument("--disable-plugin", action="append", default=[])
    parser.add_argument("--strict-plugins", action="store_true")
    try:
        known, rest = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise InputError(f"{error.argument_name}: {error.message}; see `uniad-toolkit --help`") from error
    return PluginOptions(tuple(known.plugin), tuple(known.disable_plugin), known.strict_plugins), rest
