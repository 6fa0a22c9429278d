"""Networks and frames on which precisions are compared: those of the reference's golden data, or made-up ones."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from benchmarks.gpu_network import bundle_of, pseudo_network
from plugins.motion.anchors import load_motion_anchors
from toolkit.bundle import Bundle
from toolkit.config.model import ModelConfig
from toolkit.data.probe import probe_frames
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.reference_interface import tensors as official
from toolkit.wiring import join


@dataclass(frozen=True)
class Case:
    """A network and frames for it."""

    name: str
    network: Network
    bundle: Bundle
    frames: Sequence[Mapping[str, np.ndarray]]


def probe_case(frames: int) -> Case:
    """Made-up weights and frames, with a change of scene."""
    network = pseudo_network(ModelConfig())
    return Case("probe", network, bundle_of(network), probe_frames(network.graph.config, frames, -(-2 * frames // 3)))


def golden_cases(folder: Path, seeds: Sequence[str]) -> Iterator[Case]:
    """The golden sequences, with the network that each was made with."""
    checkpoint, inputs = load_script(folder / "pseudo_checkpoint.py"), load_script(folder / "make_inputs.py")
    config = ModelConfig()
    anchors = torch.from_numpy(load_motion_anchors(folder / "motion_anchor_infos_mode6.pkl", config))
    for seed in seeds:
        network = Network(join(PluginManager.load().submodules(), config))
        weights = checkpoint.make_state_dict(str(folder / "state_dict_manifest.json"), seed)
        network.load_weights(weights | {"motion_head.motion_anchors": anchors})
        bundle = bundle_of(network)
        given = [{k: v for k, v in f.items() if not official.has_no_effect(k)} for f in inputs.make_inputs(seed)]
        frames = [official.frame_inputs(frame, bundle, f"golden {seed}: f{t}.in.") for t, frame in enumerate(given)]
        yield Case(f"golden {seed}", network, bundle, frames)


def load_script(path: Path) -> ModuleType:
    """A Python file of the golden data as a module: it makes weights, or inputs."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"{path} is missing; --golden names the folder of the golden data")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
