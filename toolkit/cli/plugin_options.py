"""Options of commands that plugins name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

PANEL = "Options of plugins"
"""Where help shows them: apart, so that a long name does not narrow what is said about the others."""


def plugin_option(option: str, key: str, meaning: str, kind: Any, note: Callable[[typer.Context, Any], None]) -> Any:
    """A command's parameter for an option such as ``"--motion-anchors"`` of a type such as `Path` or `bool`.

    `note` gets the context and the value, None or False if the option was not given: the command's function cannot
    name it. The parser keeps values by `key`, which is the option's alone.
    """

    def holder(value: Any = False if kind is bool else None) -> None: ...

    declared = typer.Option(option, help=meaning, callback=note, expose_value=False, rich_help_panel=PANEL)
    holder.__annotations__["value"] = Annotated[kind if kind is bool else kind | None, declared]
    application = typer.Typer(add_completion=False)
    application.command()(holder)
    parameter = next(p for p in typer.main.get_command(application).params if option in p.opts)
    parameter.name = key
    return parameter
