"""Clips on their way from the processes that make them to the device: in order, whole, and in one piece."""

from __future__ import annotations

from multiprocessing import active_children

import pytest
import torch
from torch import Tensor

from toolkit.training.clip import Clip, ClipFrame
from toolkit.training.clips import Place
from toolkit.training.loading import Order, packed_clips
from toolkit.training.packing import ALIGNMENT, pack

CPU = torch.device("cpu")
TENSORS: dict[str, Tensor] = {
    "image": torch.rand(2, 3, 5),
    "ids": torch.tensor([3, -1, 2**40]),
    "seen": torch.tensor([True, False, True]),
    "nothing": torch.zeros(0, 4),
    "number": torch.tensor(7, dtype=torch.int16),
    "across": torch.arange(6.0, dtype=torch.float64).reshape(2, 3).T,
}


class NumberedClips:
    """Clips that tell their places."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: Place) -> Clip:
        return Clip(f"{place.epoch}.{place.index}", (ClipFrame({"index": torch.tensor([place.index])}, {}),))


def test_tensors_come_out_of_the_buffer_as_they_went_in() -> None:
    clip = Clip("clip", (ClipFrame(TENSORS, {}), ClipFrame({}, {"image": TENSORS["image"] + 1})))
    found = pack(clip).to(CPU)
    assert found.name == "clip"
    for name, value in TENSORS.items():
        assert found.frames[0].inputs[name].dtype is value.dtype
        assert torch.equal(found.frames[0].inputs[name], value)
    assert torch.equal(found.frames[1].truth["image"], TENSORS["image"] + 1)
    assert (found.frames[0].truth, found.frames[1].inputs) == ({}, {})


def test_tensors_share_one_buffer_and_begin_where_a_gpu_reads_at_once() -> None:
    packed = pack(Clip("clip", (ClipFrame(TENSORS, TENSORS),)))
    values = [*(clip := packed.to(CPU)).frames[0].inputs.values(), *clip.frames[0].truth.values()]
    assert {value.untyped_storage().data_ptr() for value in values} == {packed.buffer.untyped_storage().data_ptr()}
    assert all(value.storage_offset() * value.element_size() % ALIGNMENT == 0 for value in values)
    assert all(value.is_contiguous() for value in values)


def test_a_clip_without_tensors_is_one() -> None:
    assert pack(Clip("clip", (ClipFrame({}, {}),))).to(CPU) == Clip("clip", (ClipFrame({}, {}),))


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_follow_each_other_from_where_a_run_goes_on(workers: int) -> None:
    order = Order(range(1, 3), lambda epoch: [Place(epoch, index) for index in (2, 0, 1)], 2)
    names = [packed.name for packed in packed_clips(NumberedClips(), order, workers, pinned=False)]
    assert names == ["1.1", "2.2", "2.0", "2.1"]


def test_processes_end_when_the_clips_are_closed() -> None:
    order = Order(range(1), lambda epoch: [Place(epoch, index) for index in range(5)], 0)
    before = active_children()
    source = packed_clips(NumberedClips(), order, 2, pinned=False)
    assert next(source).name == "0.0"
    assert len(active_children()) == len(before) + 2
    source.close()
    assert len(active_children()) == len(before)
