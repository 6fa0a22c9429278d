"""A small nuScenes, and the reference's own files made of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")

from tests.nuscenes.reference import write_infos
from tests.nuscenes.tables import VERSION, write_dataroot


@pytest.fixture(scope="session")
def dataroot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written once; only to be read."""
    return write_dataroot(tmp_path_factory.mktemp("nuscenes") / "data")


@pytest.fixture(scope="session")
def infos(dataroot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An info file of all its samples."""
    return write_infos(dataroot, VERSION, tmp_path_factory.mktemp("infos") / "nuscenes_infos_temporal_val.pkl")


@pytest.fixture
def copied(dataroot: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(dataroot, tmp_path / "nuscenes")
