"""Many tensors as one run of bytes, and back, in ordinary memory: a GPU only adds the copy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from toolkit.engines.gpu.transfer import SMALL_BYTES, Download, pack, unpack


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    """Of all types that a network has, with a number of bytes that would misalign the next."""
    return {
        "valid": torch.tensor([True, False, True]),
        "pictures": torch.arange(5, dtype=torch.uint8),
        "plan": torch.tensor([[1.5, float("nan")], [-0.0, float("inf")]]),
        "count": torch.tensor([7], dtype=torch.int32),
        "stamp": torch.tensor(2**40),
        "turned": torch.arange(6.0).view(2, 3).T,
        "none": torch.zeros(0, 4),
    }


def test_what_is_packed_comes_back(tensors: dict[str, Tensor]) -> None:
    packed = pack(tensors)
    assert packed.dtype == torch.uint8
    assert len(packed) == sum(tensor.nbytes for tensor in tensors.values())
    returned = unpack(packed, tensors)
    assert returned.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (returned[name].dtype, returned[name].shape) == (tensor.dtype, tensor.shape)
        torch.testing.assert_close(returned[name], tensor, rtol=0, atol=0, equal_nan=True)
        assert returned[name].numpy().flags.aligned


def test_packing_fills_memory_that_is_there(tensors: dict[str, Tensor]) -> None:
    memory = torch.empty(sum(tensor.nbytes for tensor in tensors.values()), dtype=torch.uint8)
    assert pack(tensors, out=memory) is memory
    assert unpack(memory, tensors)["count"].tolist() == [7]


def test_a_download_is_one_copy_at_the_first_question(tensors: dict[str, Tensor]) -> None:
    packed = pack(tensors)
    download = Download(tensors, packed)
    assert download[tensors["count"]].tolist() == [7]
    packed.zero_()
    assert download[tensors["valid"]].tolist() == [True, False, True]
    assert download.arrays.keys() == tensors.keys()


def test_a_download_knows_its_own_tensors(tensors: dict[str, Tensor]) -> None:
    """Not equal ones: the tensor of another frame may have other values when it is asked for."""
    download = Download(tensors, pack(tensors))
    assert tensors["plan"] in download
    assert tensors["plan"].clone() not in download
    with pytest.raises(KeyError):
        download[tensors["plan"].clone()]


def test_a_small_array_does_not_keep_the_memory_of_all() -> None:
    tensors = {"large": torch.zeros(SMALL_BYTES + 1, dtype=torch.uint8), "small": torch.ones(3)}
    arrays = Download(tensors, pack(tensors)).arrays
    assert arrays["small"].base is None
    assert arrays["large"].base is not None
    np.testing.assert_array_equal(arrays["small"], 1)
