"""What a training starts from: the network of its stage, with the entries of a checkpoint, or with random weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from toolkit.conversion.prepare import official_entries
from toolkit.errors import InputError
from toolkit.network import Network
from toolkit.text import quoted
from toolkit.weights.checkpoint import COUNTER, load_checkpoint
from toolkit.wiring import join

if TYPE_CHECKING:
    import numpy as np

    from toolkit.config.model import ModelConfig
    from toolkit.plugin.manager import PluginManager
    from toolkit.specs import Submodule

SHOWN = 3


@dataclass(frozen=True)
class Start:
    """A network with the weights that a training starts from, and what the user should know, a sentence each."""

    network: Network
    notes: tuple[str, ...]


def stage_submodules(submodules: Iterable[Submodule], stage: int) -> tuple[Submodule, ...]:
    """The submodules that a network has in a stage. Raises InputError if none of them can be trained."""
    chosen = tuple(each for each in submodules if each.training is None or stage in each.training().stages)
    if all(each.training is None for each in chosen):
        raise InputError(f"no submodule says how it is trained in stage {stage}; load a plugin that does")
    return chosen


def start_network(
    checkpoint: Path | None,
    plugins: PluginManager,
    config: ModelConfig,
    stage: int,
    assets: Mapping[str, np.ndarray],
    seed: int,
) -> Start:
    """The network of a stage. What the checkpoint lacks starts at random, by the seed; assets come from their files.

    Raises InputError for a checkpoint of a later stage, or with entries of another size, and for a missing asset.
    """
    submodules = stage_submodules(plugins.submodules(), stage)
    torch.manual_seed(seed)
    network = Network(join(submodules, config))
    _initialise(network)
    expected = network.weights()
    given = _asset_entries(network, assets)
    if checkpoint is None:
        network.load_weights(expected | given)
        return Start(network, ("every weight starts at random; --init starts from a checkpoint",))
    loaded = load_checkpoint(checkpoint)
    _, entries = official_entries(loaded.state_dict, plugins, config)
    _require_stage(checkpoint, entries, plugins.submodules(), submodules, stage)
    common = {key: value for key, value in entries.items() if key in expected and key not in given}
    if not common:
        raise InputError(f"checkpoint {checkpoint} holds no entry of the network; see `uniad-toolkit inspect`")
    for key, value in common.items():
        if value.shape != expected[key].shape:
            raise InputError(
                f"checkpoint {checkpoint}: {key} has shape {list(value.shape)}, but the config makes it "
                f"{list(expected[key].shape)}; train with the config, and the classes, of that checkpoint"
            )
    network.load_weights(expected | common | given)
    notes = [f"{len(common)} of {len(expected)} entries are those of {checkpoint}"]
    notes += _fresh(submodules, expected.keys() - common.keys() - given.keys())
    if left := entries.keys() - expected.keys():
        notes.append(f"{len(left)} of its entries are not used, such as {', '.join(map(quoted, sorted(left)[:SHOWN]))}")
    return Start(network, (*loaded.notes, *notes))


def _initialise(network: Network) -> None:
    """Random weights, by each submodule's own rule."""
    for submodule in network.graph.submodules:
        if submodule.training is not None and (initialise := submodule.training().initialise) is not None:
            initialise(network.parts[submodule.name])


def _asset_entries(network: Network, assets: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    expected = network.weights()
    entries = {}
    for submodule in network.graph.submodules:
        for asset in submodule.assets:
            if asset.key not in assets:
                option = f"{asset.option} FILE" if asset.option else f"--asset {asset.key}=FILE"
                raise InputError(f"submodule {submodule.name!r} needs {asset.key!r} to be trained; give {option}")
            value = torch.from_numpy(assets[asset.key])
            if value.shape != expected[asset.key].shape:
                raise InputError(
                    f"{asset.key} has shape {list(value.shape)}; it must be {list(expected[asset.key].shape)}"
                )
            entries[asset.key] = value
    return entries


def _require_stage(
    checkpoint: Path, keys: Iterable[str], known: Sequence[Submodule], trained: Sequence[Submodule], stage: int
) -> None:
    names = {each.name for each in trained}
    keys = list(keys)
    for submodule in known:
        if submodule.name not in names and any(map(submodule.owns, keys)):
            raise InputError(
                f"checkpoint {checkpoint} holds {submodule.name}, which a training of stage {stage} would lose; give "
                "the config of its stage, or a checkpoint of an earlier one"
            )


def _fresh(submodules: Sequence[Submodule], keys: Iterable[str]) -> Iterable[str]:
    """A note for each submodule of which entries start at random."""
    left = [key for key in keys if not key.endswith(COUNTER)]
    for submodule in submodules:
        own = sorted(filter(submodule.owns, left))
        if own:
            yield f"{len(own)} entries of {submodule.name} start at random, such as {quoted(own[0])}"
