"""The command line: loads plugins, lets them add commands, and turns errors into one line and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import print_error
from toolkit.errors import CheckFailed, InputError
from toolkit.plugin_manager import PluginManager

CHECK_FAILED, BAD_INPUT = 1, 2


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; 0 done, 1 a check failed, 2 bad input or usage."""
    try:
        files, rest = split_plugin_options(arguments)
        plugins = PluginManager.load(files)
        typer.main.get_command(make_app(plugins)).main(list(rest), prog_name="uniad-toolkit", obj=plugins)
    except InputError as error:
        print_error(str(error))
        return BAD_INPUT
    except CheckFailed as error:
        print_error(str(error))
        return CHECK_FAILED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def make_app(plugins: PluginManager) -> typer.Typer:
    """The application with every plugin's commands."""
    app = typer.Typer(
        name="uniad-toolkit",
        help="Convert a trained UniAD-tiny checkpoint, run it over frames, and prove that it is the same network.",
        no_args_is_help=True,
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
    ) -> None:
        """Options of every command; plugin files have been loaded by now, for they may add commands."""

    plugins.add_commands(app)
    return app


def split_plugin_options(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Take every ``--plugin FILE`` out of the arguments, wherever it stands."""
    files: list[Path] = []
    rest: list[str] = []
    pending = iter(arguments)
    for argument in pending:
        if argument == "--plugin":
            value = next(pending, None)
            if value is None:
                raise InputError("--plugin needs the path of a Python file")
            files.append(Path(value))
        elif argument.startswith("--plugin="):
            files.append(Path(argument.removeprefix("--plugin=")))
        else:
            rest.append(argument)
    return files, rest
