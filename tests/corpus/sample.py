"""A model small enough to be converted for a test, with all that the commands need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.corpus.case import Sample
from toolkit.cli.main import run
from toolkit.config.file import to_toml
from toolkit.config.model import (
    BevConfig,
    ImageConfig,
    MapConfig,
    ModelConfig,
    MotionConfig,
    OccupancyConfig,
    PlanningConfig,
    TrackingConfig,
)
from toolkit.conversion.convert import convert
from toolkit.data.frame_folder import write_frame
from toolkit.data.frames import CameraView, Command, Frame, Pose
from toolkit.data.probe import probe_frames
from toolkit.demo.pseudo_weights import pseudo_motion_anchors, pseudo_trained_weights
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.reference_interface.tensors import FRAME
from toolkit.wiring import join

PIXELS = 64
CONFIG = ModelConfig(
    embed=64,
    feedforward=64,
    image=ImageConfig(source_width=PIXELS, source_height=PIXELS, scale=1.0, stage_blocks=(1, 1, 1, 1)),
    bev=BevConfig(height=8, width=8, layers=1),
    tracking=TrackingConfig(queries=12, layers=1, track_capacity=20, agent_capacity=4, max_reports=8),
    map=MapConfig(
        queries=10, encoder_layers=1, decoder_layers=1, thing_mask_layers=1, stuff_mask_layers=1, max_instances=5
    ),
    motion=MotionConfig(layers=1),
    occupancy=OccupancyConfig(steps=2),
    planning=PlanningConfig(layers=1),
)
"""Every submodule, with one layer each."""


def make_sample(folder: Path) -> None:
    """Write checkpoint, anchors, config, bundle, frames, official inputs, results and a verification."""
    sample, plugins = Sample(folder), PluginManager.load()
    weights = pseudo_trained_weights(Network(join(plugins.submodules(), CONFIG)))
    torch.save({"state_dict": weights, "meta": {}}, sample.checkpoint)
    np.save(folder / "anchors.npy", anchors := pseudo_motion_anchors(CONFIG))
    (folder / "model.toml").write_text(to_toml(CONFIG))
    assets = {"motion_head.motion_anchors": anchors}
    convert(sample.checkpoint, sample.bundle, plugins, config=CONFIG, assets=assets)
    for number in range(2):
        write_frame(make_frame(number), sample.frames)
    np.savez(sample.inputs, **official_inputs(2))
    assert run(["run", str(sample.bundle), str(sample.frames), "-o", str(sample.results)]) == 0
    assert run(["verify", str(sample.bundle), "--length", "1", "--json", str(sample.verification)]) == 0


def make_frame(number: int) -> Frame:
    """A frame of grey pictures, half a second after the one before."""
    grey = np.full((PIXELS, PIXELS, 3), 128, np.uint8)
    pose = Pose(np.array([1.0, 0, 0, 0]), np.array([3.0 * number, 0, 0]))
    intrinsics = np.array([[50.0, 0, 32], [0, 50, 32], [0, 0, 1]])
    cameras = {name: CameraView(grey, intrinsics, pose) for name in CONFIG.image.cameras}
    return Frame(f"{number:03d}", "monday", number / 2, cameras, pose, pose, Command.STRAIGHT)


def official_inputs(frames: int) -> dict[str, Any]:
    """Probe frames under their official names."""
    probe = probe_frames(CONFIG, frames, scene_change=frames)
    return {f"f{t}.in.{name}": frame[ours] for t, frame in enumerate(probe) for name, ours in FRAME.items()}
