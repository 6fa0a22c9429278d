"""The frames of a synthetic drive are those that nuScenes' devkit reads from it, and do not need it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from toolkit.config.file import load_config
from toolkit.config.model import ImageConfig, ModelConfig
from toolkit.data.frame_folder import read_frame_folder
from toolkit.data.nuscenes.dataroot import read_dataroot
from toolkit.data.sequence import sequence_inputs
from toolkit.specs import FRAME_INPUTS
from toolkit.synthetic.dataset import DriveSettings
from toolkit.synthetic.frames import drive_truth, write_drive

pytestmark = pytest.mark.slow

WITHOUT_DEVKIT = """
import sys
from pathlib import Path
sys.modules |= {"nuscenes": None, "pyquaternion": None}
from toolkit.synthetic.dataset import DriveSettings
from toolkit.synthetic.frames import write_drive
write_drive(Path("dataroot"), Path("frames"), DriveSettings(scenes=1, keyframes=1, image_scale=0.1))
"""


def test_they_give_identical_tensors(tmp_path: Path) -> None:
    pytest.importorskip("nuscenes")
    settings = DriveSettings(scenes=2, keyframes=2, image_scale=0.25)
    assert write_drive(tmp_path / "dataroot", tmp_path / "frames", settings) == 4
    config = ModelConfig(image=ImageConfig(source_width=400, source_height=225, scale=1.0))
    written = sequence_inputs(read_frame_folder(tmp_path / "frames"), config)
    read = sequence_inputs(read_dataroot(tmp_path / "dataroot"), config)
    names = []
    for (frame, tensors), (_, expected) in zip(written, read, strict=True):
        names.append(frame.name)
        assert tensors.keys() == expected.keys()
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(tensor, expected[name], err_msg=f"{frame.name}: {name}")
    assert names == ["00000_scene-0061_000", "00001_scene-0061_001", "00002_scene-0103_000", "00003_scene-0103_001"]


def test_its_pictures_have_the_size_that_uniad_base_takes(tmp_path: Path) -> None:
    config = load_config(Path(__file__).parents[3] / "configs/uniad_base_stage2.toml")
    write_drive(tmp_path / "dataroot", tmp_path / "frames", DriveSettings(scenes=1, keyframes=1))
    frames = read_frame_folder(tmp_path / "frames", config.image.cameras)
    [(_, tensors)] = sequence_inputs(frames, config)
    for spec in FRAME_INPUTS:
        assert tensors[spec.name].shape == spec.resolve(config.dimensions()), spec.name
    sky, below = tensors["image"][0, :, :100].mean((1, 2)), tensors["image"][:, :, 900:]
    assert sky[0] > sky[2] + 20, "blue comes first"
    assert not below.any()


def test_ground_truth_is_of_the_frames_that_have_its_names(tmp_path: Path) -> None:
    """At the same poses; so results of these frames can be judged."""
    pytest.importorskip("nuscenes")
    write_drive(tmp_path / "dataroot", tmp_path / "frames", DriveSettings(scenes=2, keyframes=2, image_scale=0.1))
    frames = read_frame_folder(tmp_path / "frames", ModelConfig().image.cameras)
    known = [frame for scene in drive_truth(tmp_path / "dataroot").scenes for frame in scene.frames]
    for frame, annotated in zip(frames, known, strict=True):
        assert frame.name.partition("_")[2] == annotated.token
        np.testing.assert_allclose(frame.ego2global.translation, annotated.ego2global.translation, atol=1e-9)


def test_they_need_no_devkit(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_DEVKIT], cwd=tmp_path, check=True)
    assert [path.name for path in (tmp_path / "frames").glob("*.json")] == ["00000_scene-0061_000.json"]
