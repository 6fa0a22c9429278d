"""The demonstration: every step of the main job on made-up weights and frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from toolkit.config import ModelConfig
from toolkit.converter import Progress, convert
from toolkit.data.frame_folder import read_frame_folder
from toolkit.data.synthetic import write_synthetic_frames
from toolkit.demo.pseudo_weights import pseudo_motion_anchors, pseudo_trained_weights
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.files import new_folder
from toolkit.network import Network, join
from toolkit.plugin_manager import PluginManager
from toolkit.runtime.results import write_result
from toolkit.runtime.sequence import run_sequence
from toolkit.visualize.birds_eye import draw_birds_eye

ASSET = "motion_head.motion_anchors"


@dataclass(frozen=True)
class DemoSummary:
    """What a demonstration wrote, by what it is, and how much it found."""

    written: Mapping[str, Path]
    frames: int
    boxes: int


def run_demo(output: Path, plugins: PluginManager, *, force: bool, progress: Progress) -> DemoSummary:
    """Write checkpoint, frames, bundle and results under `output`. Raises InputError if it exists without `force`."""
    config = ModelConfig()
    with new_folder(output, force=force) as folder:
        with progress("make pseudo-trained weights"):
            weights = pseudo_trained_weights(Network(join(plugins.submodules(), config)))
            torch.save({"state_dict": weights, "meta": {"note": "pseudo-trained"}}, folder / "checkpoint.pth")
            np.save(folder / "motion_anchors.npy", anchors := pseudo_motion_anchors(config))
        with progress("render synthetic frames"):
            write_synthetic_frames(folder / "frames")
        bundle = convert(
            folder / "checkpoint.pth",
            folder / "bundle",
            plugins,
            config=config,
            assets={ASSET: anchors},
            progress=progress,
        )
        frames = read_frame_folder(folder / "frames", config.image.cameras)
        (folder / "results").mkdir()
        boxes = 0
        with progress(f"run {len(frames)} frames on ONNX Runtime and draw them"):
            for result in run_sequence(bundle, OnnxRuntimeSession(bundle), plugins.submodules(), frames):
                write_result(result, folder / "results")
                draw_birds_eye(result, folder / "results" / f"{result.frame}.png")
                boxes += len(result.boxes)
    written = {"checkpoint": "checkpoint.pth", "frames": "frames", "bundle": "bundle", "results": "results"}
    return DemoSummary({what: output / name for what, name in written.items()}, len(frames), boxes)
