"""From a checkpoint and a configuration to the network with its weights: everything that can misfit is checked here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toolkit.config.check import check_config_against, decided_config
from toolkit.config.model import ModelConfig
from toolkit.errors import InputError
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.weights.checkpoint import COUNTER, load_checkpoint, match_weights
from toolkit.weights.identity import fitting_config
from toolkit.weights.layouts import Weights, holder_note, without_holder
from toolkit.weights.selection import is_owned_by, select_submodules
from toolkit.wiring import join

Progress = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Prepared:
    """A network with a checkpoint's weights, why submodules were left out, and notes on what was read or replaced.

    `sha256` and `meta` are the checkpoint's; its own copy of the weights is not kept.
    """

    network: Network
    sha256: str
    meta: Mapping[str, Any]
    left_out: Mapping[str, str]
    notes: tuple[str, ...]


def prepare(
    checkpoint: Path,
    plugins: PluginManager,
    config: ModelConfig,
    assets: Mapping[str, np.ndarray],
    weights: Weights,
    progress: Progress,
) -> Prepared:
    """Read a checkpoint, compare it with the configuration, and build its network.

    Raises InputError for a checkpoint that cannot be read, does not fit, or makes no part of the network.
    """
    with progress("read the checkpoint"):
        loaded = load_checkpoint(checkpoint, weights)
        prefix, entries = official_entries(loaded.state_dict, plugins, config)
        selection = select_submodules(plugins.submodules(), entries)
        shapes = {key: tuple(value.shape) for key, value in selection.state_dict.items()}
        config, decision = decided_config(config, shapes, selection.submodules)
        check_config_against(config, shapes, selection.submodules, fitting_config(entries, config))
    with progress("build the network"):
        network = Network(join(selection.submodules, config))
        network.load_weights(gather_weights(network, selection.state_dict, assets))
    found = (*loaded.notes, holder_note(prefix) if prefix else "", decision)
    notes = plugins.installed_replacements() + tuple(note for note in found if note)
    return Prepared(network, loaded.sha256, loaded.meta, selection.left_out, notes)


def official_entries(
    state_dict: Mapping[str, Tensor], plugins: PluginManager, config: ModelConfig
) -> tuple[str, Mapping[str, Tensor]]:
    """A prefix that all keys had in vain, and the entries without it, as the plugins' filters give them.

    A plugin may know a layout with that prefix, so it is asked before the prefix is taken away.
    """
    known = is_owned_by(plugins.submodules())
    filtered = plugins.filter_checkpoint(state_dict, config)
    if any(map(known, filtered)):
        return "", filtered
    prefix, inner = without_holder(state_dict, known)
    return prefix, plugins.filter_checkpoint(inner, config) if prefix else filtered


def gather_weights(
    network: Network, state_dict: Mapping[str, Tensor], assets: Mapping[str, np.ndarray]
) -> dict[str, Tensor]:
    """Every entry the network needs, from a checkpoint's and the assets. Raises InputError on any mismatch.

    Missing counters of training steps, which not every training saves, are those of the network.
    """
    expected = network.weights()
    needed = {asset.key: (submodule, asset) for submodule in network.graph.submodules for asset in submodule.assets}
    for key, (submodule, asset) in needed.items():
        if key not in assets:
            option = f"{asset.option} FILE" if asset.option else f"--asset {key}=FILE"
            raise InputError(f"submodule {submodule.name!r} needs {key!r}, which no checkpoint holds; give {option}")
        if assets[key].shape != tuple(expected[key].shape):
            raise InputError(f"{key} has shape {list(assets[key].shape)}; it must be {list(expected[key].shape)}")
    given = {key: torch.from_numpy(assets[key]) for key in needed}
    counters = {key: value for key, value in expected.items() if key.endswith(COUNTER)}
    stored = {**counters, **state_dict}
    match_weights({k: v for k, v in expected.items() if k not in given}, stored)
    return {key: stored[key] if key not in given else given[key] for key in expected}
