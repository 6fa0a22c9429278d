"""Options by which results are changed on the host, as submodules offer them: of `run`, and of what judges results."""

from __future__ import annotations

from typing import Any

import typer

from toolkit.cli.plugin_command import PluginCommand
from toolkit.cli.plugin_options import plugin_option
from toolkit.specs import Refinement, refinements_of

_ASKED = f"{__name__}.asked"


class RefinementCommand(PluginCommand):
    """A command with an option for every refinement of a loaded submodule."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's own parameters, then those of refinements."""
        return [*super().get_params(ctx), *map(_parameter, refinements_of(ctx.obj.submodules()).values())]


def asked_refinements(context: typer.Context) -> tuple[str, ...]:
    """The options of the refinements that the user asks for, in the order of their submodules."""
    asked = context.meta.get(_ASKED, ())
    return tuple(option for option in refinements_of(context.obj.submodules()) if option in asked)


def _parameter(refinement: Refinement) -> Any:
    def note(context: typer.Context, value: bool) -> None:
        if value:
            context.meta.setdefault(_ASKED, set()).add(refinement.option)

    return plugin_option(refinement.option, refinement.option, refinement.meaning, bool, note)
