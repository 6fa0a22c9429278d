"""What ground truth costs: milliseconds a key frame to read it and to make of it what each metric is judged by.

    python -m benchmarks.ground_truth [--keyframes 40] [--dataroot NUSCENES]

Without a dataroot on a synthetic drive of two scenes. Processor time of one core.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import typer
from rich.console import Console

from benchmarks.command import run_benchmark
from plugins.map_segmentation.ground_truth import road_map, true_map
from plugins.map_segmentation.vector_map import RoadMap
from plugins.motion.ground_truth import agent_paths
from plugins.occupancy.ground_truth import instance_grids
from plugins.planning.ground_truth import driven_path
from toolkit.data.ground_truth import AnnotatedScene, GroundTruth
from toolkit.data.nuscenes.annotations import read_ground_truth
from toolkit.synthetic.dataset import DriveSettings, synthesize

IMAGE_SCALE = 0.05
"""Pictures do not matter here."""
Part = Callable[[AnnotatedScene, int, RoadMap | None], Any]


def main(
    keyframes: Annotated[int, typer.Option(help="Key frames of each of the two scenes.")] = 40,
    dataroot: Annotated[Path | None, typer.Option(help="A nuScenes to measure instead.")] = None,
) -> None:
    """Read, make everything once, and print the figures."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        if dataroot is None:
            dataroot = Path(folder) / "drive"
            list(synthesize(dataroot, DriveSettings(2, keyframes, image_scale=IMAGE_SCALE)))
        read_ground_truth(dataroot)  # imports the devkit
        seconds, truth = timed(lambda: read_ground_truth(dataroot))
        print_figures(truth, seconds)


def print_figures(truth: GroundTruth, reading: float) -> None:
    """A line for each part."""
    console = Console()
    frames = sum(len(scene.frames) for scene in truth.scenes)
    objects = sum(len(frame.objects.label) for scene in truth.scenes for frame in scene.frames if frame.objects)
    console.print(f"{frames} key frames with {objects / frames:.0f} objects each")
    opening, roads = timed(lambda: {scene.location: road_map(truth, scene.location) for scene in truth.scenes})
    parts: dict[str, Part] = {
        "driven path": lambda scene, index, _: driven_path(scene, index),
        "paths of objects": lambda scene, index, _: agent_paths(scene, index),
        "occupied cells": lambda scene, index, _: instance_grids(scene, index),
        "map": true_map,
    }
    console.print(f"  {reading / frames * 1000:7.2f} ms a key frame  devkit and tables")
    for name, make in parts.items():
        seconds, _ = timed(partial(make_all, make, truth, roads))
        console.print(f"  {seconds / frames * 1000:7.2f} ms a key frame  {name}")
    console.print(f"  {opening / len(roads) * 1000:7.0f} ms a map        reading its layers")


def make_all(make: Part, truth: GroundTruth, roads: Mapping[str | None, RoadMap | None]) -> None:
    """One part of every key frame."""
    for scene in truth.scenes:
        for index in range(len(scene.frames)):
            make(scene, index, roads[scene.location])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of processor time, and what the work returned."""
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


if __name__ == "__main__":
    run_benchmark(main)
