"""The toolkit's own network at a size that runs in a fraction of a second, as a bundle for the torch session."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from toolkit.bundle import WEIGHTS, Bundle, SubmoduleRecord
from toolkit.config.model import CAMERAS, BevConfig, ImageConfig, ModelConfig, TrackingConfig
from toolkit.data.frame_folder import write_frame
from toolkit.data.frames import CameraView, Command, Frame, Pose
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.storage.files import sha256_file
from toolkit.wiring import join

CONFIG = ModelConfig(
    embed=32,
    image=ImageConfig(source_width=64, source_height=64, scale=0.5, stage_blocks=(1, 1, 1, 1)),
    bev=BevConfig(height=10, width=10, layers=1),
    tracking=TrackingConfig(
        queries=20, layers=1, birth_score=0.0, keep_score=0.0, track_capacity=60, agent_capacity=4, max_reports=12
    ),
)
"""Every query is a birth, so that tracks live on and ids are given away in every frame."""


def write_toy_bundle(folder: Path, plugins: PluginManager | None = None, without: Collection[str] = ()) -> Bundle:
    """Random weights, always the same, of all submodules but those named; there is no ONNX form."""
    folder.mkdir()
    plugins = plugins or PluginManager.load()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(join([s for s in plugins.submodules() if s.name not in without], CONFIG))
    save_file({key: weight.clone() for key, weight in network.weights().items()}, folder / WEIGHTS)
    submodules = network.graph.submodules
    bundle = Bundle.of_graph(
        folder,
        network.graph,
        submodules=tuple(SubmoduleRecord(s.name, "tests", None, tuple(o.name for o in s.outputs)) for s in submodules),
        custom_ops=(),
        files={"weights": WEIGHTS},
        sha256={WEIGHTS: sha256_file(folder / WEIGHTS)},
        provenance={},
        parity={},
    )
    bundle.write()
    return bundle


def toy_frame(number: int, scene: str) -> Frame:
    """Noise from every camera; the ego goes faster and faster."""
    here, random = Pose.from_matrix(np.eye(3), np.zeros(3)), np.random.default_rng(number)
    size = (CONFIG.image.source_height, CONFIG.image.source_width, 3)
    intrinsics = np.array([[40.0, 0, 32], [0, 40, 32], [0, 0, 1]])
    views = {camera: CameraView(random.integers(0, 256, size).astype(np.uint8), intrinsics, here) for camera in CAMERAS}
    moved = Pose.from_matrix(np.eye(3), np.array([5.0 * number, number**2, 0]))
    return Frame(f"frame{number}", scene, float(number), views, here, moved, Command.STRAIGHT)


def write_toy_frames(folder: Path) -> None:
    """Three scenes of two frames as a frame folder."""
    folder.mkdir()
    for number in range(6):
        write_frame(toy_frame(number, f"scene{number // 2}"), folder)
