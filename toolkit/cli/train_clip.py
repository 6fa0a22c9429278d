"""`uniad-toolkit train --clip`: the losses of one clip that is given as arrays, and the norms of their gradients."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.cli.console import print_line, print_note, print_written, step
from toolkit.storage.claims import claim_file
from toolkit.storage.outputs import new_file

if TYPE_CHECKING:
    from toolkit.plugin.manager import PluginManager
    from toolkit.specs import Asset


def write_clip_losses(
    config: Path,
    stage: int | None,
    settings: Sequence[str],
    clip: Path,
    init: Path | None,
    files: Mapping[str, tuple[Asset, Path]],
    losses: Path,
    plugins: PluginManager,
    *,
    double: bool,
) -> None:
    """Compute on the CPU, without anything random, in float32 or `double` precision; no weight changes."""
    import torch

    from toolkit.config.file import config_files, load_config
    from toolkit.training.clip_file import read_clip
    from toolkit.training.clip_losses import clip_losses, default_type
    from toolkit.training.config import load_training_config
    from toolkit.training.settings import default_options, with_settings
    from toolkit.training.start import stage_submodules, start_network

    paths = [*config_files(config), clip, init, *plugins.files, *(file for _, file in files.values())]
    target = claim_file(losses, inputs=paths)
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
    with new_file(target) as work:
        work.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print_line(f"total {found['total']}, gradient norm {found['total_grad_norm']}")
    print_written(losses, "losses")
