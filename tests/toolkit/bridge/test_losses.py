"""The losses of a clip, as a training environment computes them."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from tests.toolkit.bridge.small_uniad import SmallUniAD, small_clip
from toolkit.config.model import ImageConfig, ModelConfig
from toolkit.training.clip_file import read_clip


@pytest.fixture
def model() -> SmallUniAD:
    model = SmallUniAD().train()
    model.query_interact = nn.Module()
    model.query_interact.random_drop, model.query_interact.fp_ratio = 0.1, 0.3  # type: ignore[assignment]
    return model


def test_they_are_laid_out_as_those_of_the_official_model(
    bridge: ModuleType, model: SmallUniAD, tmp_path: Path, golden: Path
) -> None:
    bridge.dump_losses(model, small_clip(), str(tmp_path / "losses.json"))
    written = json.loads((tmp_path / "losses.json").read_text())
    official = json.loads((golden / "training" / "stage2_losses.json").read_text())
    assert {name: type(written[name]) for name in ("stage", "dtype", "total", "losses")} == {
        name: type(official[name]) for name in ("stage", "dtype", "total", "losses")
    }
    assert written["losses"].keys() <= official["losses"].keys() | {"map.loss_mask"}
    assert written["total"] == written["losses"]["loss"]


def test_their_clip_is_laid_out_as_that_of_the_official_model(
    bridge: ModuleType, model: SmallUniAD, tmp_path: Path, golden: Path
) -> None:
    """Keys, dtypes and ranks; every frame has its projections here, times are exact, and the pictures are there."""
    bridge.dump_losses(model, small_clip(), str(tmp_path / "losses.json"))
    written, official = np.load(tmp_path / "losses.npz"), np.load(golden / "training" / "stage2_batch.npz")
    expected = {name: (official[name].dtype, official[name].ndim) for name in official if "future_labels" not in name}
    expected |= {
        "img": (np.dtype("float32"), 5),
        "lidar2img": (np.dtype("float64"), 4),
        "timestamp": (np.dtype("float64"), 1),
    }
    assert {name: (written[name].dtype, written[name].ndim) for name in written} == expected


def test_the_clip_is_as_it_was_given(bridge: ModuleType, model: SmallUniAD, tmp_path: Path) -> None:
    """A model changes ground truth in place."""
    bridge.dump_losses(model, small_clip(), str(tmp_path / "losses.json"))
    clip = np.load(tmp_path / "losses.npz")
    assert (clip["gt_fut_traj"] == 1).all()
    assert (clip["gt_bboxes_3d.2"] == 2).all()
    np.testing.assert_allclose(clip["timestamp"], [0, 0.5, 1], atol=1e-6)
    assert len(clip["gt_future_boxes.4"]) == 4


def test_the_toolkit_reads_the_clip(bridge: ModuleType, model: SmallUniAD, tmp_path: Path) -> None:
    bridge.dump_losses(model, small_clip(), str(tmp_path / "losses.json"))
    size = {"source_width": 4, "source_height": 4, "scale": 1.0, "pad_multiple": 4}
    image = ImageConfig(cameras=("CAM_FRONT", "CAM_FRONT_RIGHT"), **size)  # type: ignore[arg-type]
    clip = read_clip(tmp_path / "losses.npz", ModelConfig(image=image), torch.float32)
    assert len(clip.frames) == 3
    assert float(clip.frames[1].inputs["timestamp"]) == pytest.approx(0.5, abs=1e-6)
    assert "gt_fut_traj" in clip.frames[-1].truth


def test_nothing_is_drawn(bridge: ModuleType, model: SmallUniAD, tmp_path: Path) -> None:
    """So that two runs are equal; what was switched off is told."""
    for name in ("first.json", "second.json"):
        bridge.dump_losses(model, small_clip(), str(tmp_path / name))
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("first.json", "second.json"))
    assert first["losses"] == second["losses"]
    assert first["randomness_off"] == [
        ["use_grid_mask", "True"],
        ["query_interact.random_drop", "0.1"],
        ["query_interact.fp_ratio", "0.3"],
        ["dropout.p", "0.5"],
        ["mixing.dropout", "0.25"],
    ]


def test_the_model_is_left_as_it_was(bridge: ModuleType, model: SmallUniAD, tmp_path: Path) -> None:
    """The statistics of batch norms, probabilities, and who is in training mode."""
    model.mixing.eval()
    mean = model.norm.running_mean
    assert mean is not None
    bridge.dump_losses(model, small_clip(), str(tmp_path / "losses.json"))
    assert torch.equal(mean, torch.zeros_like(mean))
    assert (model.dropout.p, model.mixing.dropout, model.use_grid_mask) == (0.5, 0.25, True)
    assert (model.training, model.mixing.training) == (True, False)


def test_nothing_that_is_there_is_replaced(bridge: ModuleType, model: SmallUniAD, tmp_path: Path) -> None:
    """Neither losses, nor the clip beside them; another suffix could be the clip's."""
    with pytest.raises(bridge.BridgeError, match=r"l\.npz must end in \.json"):
        bridge.dump_losses(model, small_clip(), str(tmp_path / "l.npz"))
    for name in ("losses.json", "losses.npz"):
        (tmp_path / name).write_text("yours")
        with pytest.raises(bridge.BridgeError, match=f"{name} already exists; choose another output"):
            bridge.dump_losses(model, small_clip(), str(tmp_path / "losses.json"))
        assert [path.read_text() for path in tmp_path.iterdir()] == ["yours"]
        (tmp_path / name).unlink()


def test_half_precision_is_refused(bridge: ModuleType, model: SmallUniAD, tmp_path: Path) -> None:
    with pytest.raises(bridge.BridgeError, match=r"query_embedding.weight is of torch.float16: leave out half\(\)"):
        bridge.dump_losses(model.half(), small_clip(), str(tmp_path / "losses.json"))


def test_several_processes_are_refused(
    bridge: ModuleType, model: SmallUniAD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "world", lambda: 2)
    with pytest.raises(bridge.BridgeError, match="need one process"):
        bridge.dump_losses(model, small_clip(), str(tmp_path / "losses.json"))
