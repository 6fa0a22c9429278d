"""Tensors in one piece of memory."""

from __future__ import annotations

import torch

from toolkit.training.flat import ALIGNMENT, FlatTensors


def test_tensors_of_several_types_share_a_piece_for_each() -> None:
    like = [torch.ones(3), torch.ones(2, 5, dtype=torch.double), torch.ones(()), torch.ones(4, 2).T, torch.ones(0, 3)]
    flat = FlatTensors(like)
    for own, other in zip(flat.tensors, like, strict=True):
        assert (own.shape, own.dtype) == (other.shape, other.dtype)
        assert own.is_contiguous()
        assert not own.any()
        assert own.storage_offset() % ALIGNMENT == 0
    assert len({own.untyped_storage().data_ptr() for own in flat.tensors}) == 2
    for number, own in enumerate(flat.tensors):
        own.fill_(number + 1)
    copies = flat.copies({0, 1, 2, 3, 4})
    assert flat.copies({2}).keys() == {2}
    flat.zero()
    for number, (own, other) in enumerate(zip(flat.tensors, like, strict=True)):
        assert torch.equal(copies[number], torch.full_like(other, number + 1))
        assert not own.any()
