"""The reference's evaluation: inputs and outputs of each metric."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

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
