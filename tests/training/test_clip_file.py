"""A clip given as arrays: what is read of it, and what `train --clip` says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.test_train_command import ALONE, TOML
from toolkit.cli.main import run
from toolkit.config.file import load_config
from toolkit.config.model import ModelConfig
from toolkit.errors import InputError
from toolkit.training.clip_file import read_clip

FRAMES = 2
Arrays = dict[str, Any]
WriteClip = Callable[[Mapping[str, Any]], Path]


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "mini.toml"
    path.write_text(TOML)
    return path


@pytest.fixture
def config(config_file: Path) -> ModelConfig:
    return load_config(config_file)


@pytest.fixture
def arrays(config: ModelConfig) -> Arrays:
    """A clip of two frames, with ground truth of each, of the last, and of steps ahead."""
    random = np.random.default_rng(0)
    size = config.image.padded
    return {
        "img": random.random((FRAMES, len(config.image.cameras), 3, *size), np.float32),
        "can_bus": random.random((FRAMES, 18)),
        "lidar2img": random.random((len(config.image.cameras), 4, 4)),
        "l2g_r_mat": np.tile(np.eye(3, dtype=np.float32), (FRAMES, 1, 1)),
        "l2g_t": np.zeros((FRAMES, 3), np.float32),
        "timestamp": np.array([0.0, 0.5], np.float32),
        "command": np.array([1]),
        "gt_step.0": np.array([1.0, 2.0]),
        "gt_step.1": np.array([1.0, 3.0]),
        "gt_lane_labels": np.array([0, 3]),
        "gt_future_boxes.0": np.zeros((2, 9), np.float32),
        "gt_future_boxes.1": np.ones((0, 9), np.float32),
    }


@pytest.fixture
def write(tmp_path: Path) -> WriteClip:
    """A clip file of arrays; None leaves one out."""

    def written(arrays: Mapping[str, Any]) -> Path:
        path = tmp_path / "clip.npz"
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        return path

    return written


def test_every_frame_has_its_inputs(arrays: Arrays, config: ModelConfig, write: WriteClip) -> None:
    """As the network takes them; the projections are the same in all."""
    first, last = read_clip(write(arrays), config, torch.float32).frames
    np.testing.assert_array_equal(last.inputs["image"], arrays["img"][1])
    np.testing.assert_array_equal(last.inputs["timestamp"], [0.5])
    torch.testing.assert_close(first.inputs["lidar2img"], last.inputs["lidar2img"])
    assert {each.dtype for each in last.inputs.values()} == {torch.float32, torch.int32}
    assert [int(frame.inputs["use_previous"]) for frame in (first, last)] == [0, 1]


def test_ground_truth_keeps_its_type_in_double_precision(arrays: Arrays, config: ModelConfig, write: WriteClip) -> None:
    last = read_clip(write(arrays), config, torch.float64).frames[-1]
    assert last.inputs["image"].dtype == torch.float64
    assert last.truth["gt_future_boxes.0"].dtype == torch.float32


def test_ground_truth_goes_to_its_frame(arrays: Arrays, config: ModelConfig, write: WriteClip) -> None:
    """What has no number, and what is counted by steps ahead, is the last frame's."""
    first, last = read_clip(write(arrays), config, torch.float32).frames
    assert first.truth.keys() == {"gt_step"}
    assert last.truth.keys() == {"gt_step", "gt_lane_labels", "gt_future_boxes.0", "gt_future_boxes.1"}
    assert last.truth["gt_step"].tolist() == [1, 3]


def test_missing_ground_truth_is_named(arrays: Arrays, config: ModelConfig, write: WriteClip) -> None:
    first, _ = read_clip(write(arrays), config, torch.float32).frames
    with pytest.raises(InputError, match=r"clip\.npz: frame 0 has no gt_inds; add it"):
        first.truth["gt_inds"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"img": None}, "img must be there"),
        ({"img": np.zeros((0, 6, 3, 8, 8))}, "img must be there"),
        ({"img": np.zeros((2, 6, 3, 8, 8))}, "img of frame 0 is float64.* it must hold float32"),
        ({"can_bus": None}, "can_bus is missing; it holds ego motion"),
        ({"can_bus": np.zeros((3, 18))}, r"can_bus of frame 0 is float64\[3, 18\]"),
        ({"can_bus": np.full((2, 18), np.nan)}, "can_bus of frame 0 holds non-finite values"),
        ({"command": np.array([3])}, "command must lie between 0 and 2"),
        ({"gt_step.2": np.zeros(2)}, "gt_step.2 is of no frame; img has 2"),
        ({"gt_names": np.array(["a"])}, "gt_names is of type <U1; a clip has"),
        ({"gt_step.0": np.zeros(2, np.complex64)}, "gt_step.0 is of type complex64"),
    ],
)
def test_what_is_no_clip(changes: Arrays, message: str, arrays: Arrays, config: ModelConfig, write: WriteClip) -> None:
    with pytest.raises(InputError, match=message):
        read_clip(write(arrays | changes), config, torch.float32)


def test_the_command_writes_losses_and_norms(
    arrays: Arrays, config_file: Path, write: WriteClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In float64 if asked; nothing is random, though its dropout is set."""
    out = tmp_path / "losses.json"
    words = ["train", str(config_file), *ALONE, "--clip", str(write(arrays)), "--losses", str(out)]
    assert run([*words, "--double"]) == 0
    found = json.loads(out.read_text())
    assert found.keys() == {"stage", "dtype", "total", "losses", "grad_norm", "total_grad_norm"}
    assert (found["stage"], found["dtype"]) == (1, "float64")
    assert found["total"] == pytest.approx(sum(v for k, v in found["losses"].items() if "loss" in k))
    assert found["grad_norm"].keys() == {"driver.weight", "driver.bias"}
    first = out.read_bytes()
    assert run([*words, "--double"]) == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--clip", "clip.npz"], "--clip and --losses go together"),
        (["--losses", "losses.json"], "--clip and --losses go together"),
        (["--clip", "clip.npz", "--losses", "l.json", "-o", "run"], "without --data, -o, --resume and --cache"),
        (["-o", "run"], "give --data and -o to train, or --clip and --losses"),
    ],
)
def test_options_that_do_not_go_together(
    words: list[str], message: str, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", str(config_file), *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_ground_truth_of_another_shape(
    arrays: Arrays, config_file: Path, write: WriteClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, whatever the submodule made of it."""
    clip = write(arrays | {"gt_step.0": np.zeros((7, 5))})
    words = ["train", str(config_file), *ALONE, "--clip", str(clip), "--losses", str(tmp_path / "losses.json")]
    assert run(words) == 2
    assert "clip clip.npz does not fit to the network" in " ".join(capsys.readouterr().err.split())
