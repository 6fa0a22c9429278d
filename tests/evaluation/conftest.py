"""The reference's evaluation: inputs and outputs of each metric."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.data.ground_truth import AnnotatedFrame, AnnotatedScene

Arrays = Mapping[str, NDArray[Any]]


@pytest.fixture(scope="session")
def golden_evaluation(golden: Path) -> Path:
    return golden / "evaluation"


@pytest.fixture(scope="session")
def golden_plans(golden_evaluation: Path) -> Arrays:
    return dict(np.load(golden_evaluation / "planning_metrics.npz"))


@pytest.fixture(scope="session")
def golden_collisions(golden_evaluation: Path) -> Arrays:
    return dict(np.load(golden_evaluation / "collision_optimisation.npz"))


@pytest.fixture(scope="session")
def golden_occupancy(golden_evaluation: Path) -> Arrays:
    return dict(np.load(golden_evaluation / "occupancy_metrics.npz"))


@pytest.fixture(scope="session")
def golden_maps(golden_evaluation: Path) -> Arrays:
    return dict(np.load(golden_evaluation / "map_metrics.npz"))


@pytest.fixture(scope="session")
def golden_map_rasters(golden_evaluation: Path) -> Arrays:
    return dict(np.load(golden_evaluation / "gt_map_raster.npz"))


@pytest.fixture(scope="session")
def golden_trajectories(golden_evaluation: Path) -> Arrays:
    return dict(np.load(golden_evaluation / "gt_trajectories.npz"))


@pytest.fixture(scope="session")
def golden_grids(golden_evaluation: Path) -> Arrays:
    return dict(np.load(golden_evaluation / "gt_occupancy.npz"))


@dataclass(frozen=True)
class Located:
    """A key frame: its scene, its place therein, and the prefix of its golden arrays."""

    scene: AnnotatedScene
    index: int
    prefix: str

    @property
    def frame(self) -> AnnotatedFrame:
        return self.scene.frames[self.index]


@pytest.fixture(scope="session")
def golden_frames(golden_evaluation: Path) -> list[Located]:
    """The key frames of the reference's small data set."""
    pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")
    from toolkit.data.nuscenes.annotations import read_ground_truth

    samples = json.loads((golden_evaluation / "db/v1.0-mini/sample.json").read_text())
    numbers = {sample["token"]: i for i, sample in enumerate(samples)}
    truth = read_ground_truth(golden_evaluation / "db")
    return [
        Located(scene, index, f"s{numbers[frame.token]}")
        for scene in truth.scenes
        for index, frame in enumerate(scene.frames)
    ]
