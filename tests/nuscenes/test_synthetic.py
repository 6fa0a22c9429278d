"""A synthetic drive is a nuScenes like any other: full-size pictures, the same tensors from every source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes

from tests.nuscenes.reference import evaluation_inputs, write_infos
from tests.nuscenes.tables import SOURCES
from toolkit.cli.main import run
from toolkit.config.model import CanBusRotation, ModelConfig
from toolkit.data.sequence import sequence_inputs
from toolkit.data.sources import open_frames

pytestmark = pytest.mark.slow

VERSION = "v1.0-mini"


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of two key frames."""
    dataroot = tmp_path_factory.mktemp("drive") / "nuscenes"
    assert run(["synthesize", "-o", str(dataroot), "--scenes", "2", "--keyframes", "2", "--version", VERSION]) == 0
    return dataroot


def test_three_sources_give_identical_tensors(drive: Path, tmp_path: Path) -> None:
    infos = write_infos(drive, VERSION, tmp_path / "infos.pkl")
    assert run(["prepare", "--dataroot", str(drive), "-o", str(tmp_path / "frames")]) == 0
    config = ModelConfig()
    addresses = (f"nuscenes:{drive}", f"infos:{infos}?dataroot={drive}", str(tmp_path / "frames"))
    opened = [open_frames(place, config.image, SOURCES) for place in addresses]
    sources = [[inputs for _, inputs in sequence_inputs(frames, config)] for frames in opened]
    for one, *others in zip(*sources, strict=True):
        for other in others:
            assert [(name, array.tobytes()) for name, array in one.items()] == [
                (name, array.tobytes()) for name, array in other.items()
            ]


@pytest.mark.parametrize("rotation", CanBusRotation)
def test_tensors_are_those_of_the_reference(drive: Path, rotation: CanBusRotation) -> None:
    config = ModelConfig(can_bus_rotation=rotation)
    frames = open_frames(f"nuscenes:{drive}", config.image, SOURCES)
    actual = [inputs for _, inputs in sequence_inputs(frames, config)]
    reference = evaluation_inputs(NuScenes(VERSION, str(drive), verbose=False), rotation)
    for inputs, wanted in zip(actual, reference, strict=True):
        for name, values in wanted.items():
            np.testing.assert_allclose(inputs[name], values, rtol=2e-6, atol=2e-5, err_msg=name)
