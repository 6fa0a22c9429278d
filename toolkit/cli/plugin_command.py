"""Commands whose help names what plugins offer."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from toolkit.data.sources import address_forms
from toolkit.plugin.manager import PluginManager


class PluginCommand(TyperCommand):
    """In the help of its parameters `{sessions}` and `{addresses}` stand for the names and forms that plugins offer."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's parameters, their help completed."""
        params: list[Any] = super().get_params(ctx)
        plugins: PluginManager = ctx.obj
        offered = {
            "{sessions}": ", ".join(kind.name for kind in plugins.sessions()),
            "{addresses}": address_forms(plugins.frame_sources()),
        }
        for param in params:
            for mark, names in offered.items():
                param.help = (param.help or "").replace(mark, names)
        return params
