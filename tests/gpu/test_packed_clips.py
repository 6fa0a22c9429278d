"""A clip reaches the GPU in one copy, from ordinary memory and from page-locked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning_fabric", reason="Lightning Fabric is not installed")

from tests.training.test_loading import TENSORS
from tests.training.test_run import CONFIG, MadeClips, driver
from toolkit.training.clip import Clip, ClipFrame
from toolkit.training.journal import LOG_FILE, read_records
from toolkit.training.packing import PackedClip, pack
from toolkit.training.processes import TrainingPrecision, make_fabric
from toolkit.training.run import Run, train


@pytest.mark.parametrize("place", [lambda packed: packed, PackedClip.pin_memory], ids=["pageable", "pinned"])
def test_tensors_are_those_that_were_packed(place: object) -> None:
    assert callable(place)
    clip = place(pack(Clip("clip", (ClipFrame(TENSORS, TENSORS),)))).to(torch.device("cuda"))
    for found in (clip.frames[0].inputs, clip.frames[0].truth):
        for name, value in TENSORS.items():
            assert (found[name].is_cuda, found[name].dtype) == (True, value.dtype)
            assert torch.equal(found[name].cpu(), value)


@pytest.mark.parametrize("workers", [0, 2])
def test_pinned_clips_train_as_others_do(tmp_path: Path, workers: int) -> None:
    losses = []
    for pinned in (False, True):
        folder = tmp_path / str(pinned)
        folder.mkdir()
        train(Run(folder, CONFIG, workers, pinned), driver(), MadeClips(), make_fabric(TrainingPrecision.FP32, "cuda"))
        losses.append([record.total for record in read_records(folder / LOG_FILE)])
    assert len(losses[0]) == 12
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
