"""`uniad-toolkit train --clip`: the losses of one clip that is given as arrays, and the norms of their gradients."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.cli.console import console, plain, print_line, print_note, print_written, step
from toolkit.errors import CheckFailed
from toolkit.storage.claims import FileOutput
from toolkit.storage.outputs import new_file

if TYPE_CHECKING:
    from toolkit.plugin.manager import PluginManager
    from toolkit.specs import Asset

SHOWN = 10
"""Entries in the table of a comparison."""


def write_clip_losses(
    config: Path,
    stage: int | None,
    settings: Sequence[str],
    clip: Path,
    init: Path | None,
    files: Mapping[str, tuple[Asset, Path]],
    losses: FileOutput,
    plugins: PluginManager,
    *,
    against: Path | None,
    double: bool,
) -> None:
    """Compute on the CPU, without anything random, in float32 or `double` precision; no weight changes.

    Raises CheckFailed if entries differ from those of the file `against`.
    """
    import torch

    from toolkit.config.file import load_config
    from toolkit.training.clip_file import read_clip
    from toolkit.training.clip_losses import clip_losses, default_type
    from toolkit.training.config import load_training_config
    from toolkit.training.settings import default_options, with_settings
    from toolkit.training.start import stage_submodules, start_network

    model, training = load_config(config), load_training_config(config, stage)
    submodules = stage_submodules(plugins.submodules(), training.stage)
    training, options = with_settings(training, default_options(submodules), settings)
    dtype = torch.float64 if double else torch.float32
    assets = {key: each.read(file, model) for key, (each, file) in files.items()}
    with step("read the clip"):
        frames = read_clip(clip, model, dtype)
    with step("build the network"), default_type(dtype):
        start = start_network(init, plugins, model, training.stage, assets, training.seed)
    for note in start.notes:
        print_note(note)
    with step(f"train on {len(frames.frames)} frames"), default_type(dtype):
        found = clip_losses(start.network, frames, training.stage, options)
    with new_file(losses) as work:
        work.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if broken := [name for name, value in found["losses"].items() if value is None]:
        print_note(f"{len(broken)} losses are not finite, and NaN counts as 0 in the total: {', '.join(broken[:3])}")
    print_line(f"total {found['total']}, gradient norm {found['total_grad_norm']}")
    print_written(losses.given, "losses")
    if against is not None:
        compare_and_print(found, against)


def compare_and_print(found: Mapping[str, Any], against: Path) -> None:
    """Print the entries that differ most. Raises CheckFailed if one differs by more than rounding."""
    from rich.table import Column, Table

    from toolkit.training.loss_comparison import TOLERANCES, beyond, compare_losses

    compared = compare_losses(found, against)
    table = Table(Column("loss", overflow="fold"), "ours", "theirs", "difference", title="the entries furthest apart")
    for each in compared[:SHOWN]:
        table.add_row(plain(each.name), *map(_number, (each.ours, each.theirs)), f"{each.difference:.1e}")
    console.print(table)
    bound = f"{TOLERANCES[found['dtype']]:.0e}"
    failed = beyond(compared, found["dtype"])
    if failed:
        worst = f"{failed[0].name}: {_number(failed[0].ours)} instead of {_number(failed[0].theirs)}"
        raise CheckFailed(
            f"{len(failed)} of {len(compared)} losses differ from {against} by more than {bound} of them, the most "
            f"{worst}"
        )
    print_line(f"all {len(compared)} losses are those of {against} within {bound}")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.9g}"
