"""The files that `convert` takes besides the checkpoint: `--asset KEY=FILE`, and the options that submodules name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from toolkit.cli.plugin_options import plugin_option
from toolkit.errors import InputError
from toolkit.plugin.manager import PluginManager
from toolkit.specs import Asset
from toolkit.text import quoted

_GIVEN = f"{__name__}.given"
AssetOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=FILE", help="File of an entry that the checkpoint does not hold; repeatable."),
]


class AssetCommand(TyperCommand):
    """A command with an option for every asset to which a loaded submodule gives one."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's own parameters, then those of the assets."""
        options = [_parameter(asset) for asset in assets_of(ctx.obj).values() if asset.option is not None]
        return [*super().get_params(ctx), *options]


def assets_of(plugins: PluginManager) -> dict[str, Asset]:
    """The assets of all submodules by key."""
    return {asset.key: asset for submodule in plugins.submodules() for asset in submodule.assets}


def asset_files(context: typer.Context, pairs: Sequence[str]) -> dict[str, tuple[Asset, Path]]:
    """By key what `--asset` and the options of assets give. Raises InputError for an unknown key."""
    known = assets_of(context.obj)
    files: Mapping[str, Path] = context.meta.get(_GIVEN, {}) | dict(map(_pair, pairs))
    for key in files:
        if key not in known:
            raise InputError(f"--asset {quoted(key)} is of no submodule; known: {', '.join(known) or 'none'}")
    return {key: (known[key], path) for key, path in files.items()}


def _pair(text: str) -> tuple[str, Path]:
    key, equals, file = text.partition("=")
    if not (key and equals and file):
        raise InputError(f"--asset {quoted(text)} is not KEY=FILE")
    return key, Path(file)


def _parameter(asset: Asset) -> Any:
    """The option of an asset, which notes the file in the context."""
    assert asset.option is not None

    def note(context: typer.Context, file: Path | None) -> None:
        if file is not None:
            context.meta.setdefault(_GIVEN, {})[asset.key] = file

    return plugin_option(asset.option, asset.key, asset.meaning, Path, note)
