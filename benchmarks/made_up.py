"""A bundle with made-up weights and a rendered drive, for benchmarks on a machine that has neither.

python -m benchmarks.made_up FOLDER [--scenes 2] [--keyframes 40]

writes FOLDER/bundle, which has weights and no ONNX model, and FOLDER/frames, whose pictures lie in FOLDER/dataroot.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from safetensors.torch import save_file

from benchmarks.command import run_benchmark
from benchmarks.gpu_network import bundle_of, pseudo_network
from toolkit.bundle import WEIGHTS, Bundle
from toolkit.config.model import ModelConfig
from toolkit.storage.files import sha256_file
from toolkit.synthetic.dataset import DriveSettings
from toolkit.synthetic.frames import write_drive


def main(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    scenes: Annotated[int, typer.Option(min=1, max=10)] = 2,
    keyframes: Annotated[int, typer.Option(min=1)] = 40,
) -> None:
    """Write a bundle and frames."""
    write_bundle(folder / "bundle", ModelConfig())
    write_frames(folder, DriveSettings(scenes, keyframes))


def write_bundle(folder: Path, config: ModelConfig) -> Bundle:
    """A bundle for the sessions that read weights, in a new folder."""
    folder.mkdir(parents=True)
    network = pseudo_network(config)
    save_file({key: weight.contiguous() for key, weight in network.weights().items()}, folder / WEIGHTS)
    described = bundle_of(network)
    bundle = replace(
        described, path=folder, files={"weights": WEIGHTS}, sha256={WEIGHTS: sha256_file(folder / WEIGHTS)}
    )
    bundle.write()
    return bundle


def write_frames(folder: Path, settings: DriveSettings) -> Path:
    """The frame folder of a drive, each scene of which is rendered by a process of its own."""
    frames = folder / "frames"
    workers = min(settings.scenes, len(os.sched_getaffinity(0)))
    write_drive(folder / "dataroot", frames, settings, workers)
    return frames


if __name__ == "__main__":
    run_benchmark(main)
