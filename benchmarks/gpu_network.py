"""The network that benchmarks run on a GPU, without a bundle on disk."""

from __future__ import annotations

from pathlib import Path

import torch

from toolkit.bundle import Bundle, SubmoduleRecord
from toolkit.config.file import load_config
from toolkit.config.model import ModelConfig
from toolkit.demo.pseudo_weights import pseudo_motion_anchors, pseudo_trained_weights
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.wiring import join


def config_of(path: Path | None) -> ModelConfig:
    """The configuration of a file, or UniAD-tiny's."""
    return ModelConfig() if path is None else load_config(path)


def pseudo_network(config: ModelConfig) -> Network:
    """The toolkit's network with made-up weights that report a plausible number of objects."""
    network = Network(join(PluginManager.load().submodules(), config))
    anchors = {"motion_head.motion_anchors": torch.from_numpy(pseudo_motion_anchors(config))}
    network.load_weights(pseudo_trained_weights(network) | anchors)
    return network


def bundle_of(network: Network) -> Bundle:
    """A bundle's description of a network; nothing is on disk."""
    return Bundle.of_graph(
        Path(),
        network.graph,
        submodules=tuple(
            SubmoduleRecord(s.name, "", None, tuple(output.name for output in s.outputs))
            for s in network.graph.submodules
        ),
        custom_ops=(),
        files={},
        sha256={},
        provenance={},
        parity={},
    )
