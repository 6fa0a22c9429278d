"""Many tensors as one run of bytes, and back, in ordinary memory: a GPU only adds the copy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from toolkit.engines.gpu.transfer import SMALL_BYTES, ByteLayout, Download


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
    """As tensors and as arrays, which are views."""
    layout = ByteLayout.of(tensors)
    packed = layout.pack(tensors)
    assert packed.dtype == torch.uint8
    assert len(packed) == layout.size == sum(tensor.nbytes for tensor in tensors.values())
    returned, arrays = layout.tensors(packed), layout.arrays(packed)
    assert returned.keys() == arrays.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (returned[name].dtype, returned[name].shape) == (tensor.dtype, tensor.shape)
        torch.testing.assert_close(returned[name], tensor, rtol=0, atol=0, equal_nan=True)
        assert arrays[name].flags.aligned
        np.testing.assert_array_equal(arrays[name], tensor.numpy(), strict=True)
    packed.zero_()
    assert not any(array.any() for array in arrays.values())


def test_arrays_have_the_layout_of_their_tensors(tensors: dict[str, Tensor]) -> None:
    assert ByteLayout.of({name: tensor.numpy() for name, tensor in tensors.items()}) == ByteLayout.of(tensors)


def test_nothing_takes_no_memory() -> None:
    assert ByteLayout.of({}).size == 0


def test_a_download_is_one_copy_at_the_first_question(tensors: dict[str, Tensor]) -> None:
    packed = ByteLayout.of(tensors).pack(tensors)
    download = Download(tensors, packed)
    assert download[tensors["count"]].tolist() == [7]
    packed.zero_()
    assert download[tensors["valid"]].tolist() == [True, False, True]
    assert download.arrays.keys() == tensors.keys()


def test_a_download_knows_its_own_tensors(tensors: dict[str, Tensor]) -> None:
    """Not equal ones: the tensor of another frame may have other values when it is asked for."""
    download = Download(tensors, ByteLayout.of(tensors).pack(tensors))
    assert tensors["plan"] in download
    assert tensors["plan"].clone() not in download
    with pytest.raises(KeyError):
        download[tensors["plan"].clone()]


def test_a_small_array_does_not_keep_the_memory_of_all() -> None:
    tensors = {"large": torch.zeros(SMALL_BYTES + 1, dtype=torch.uint8), "small": torch.ones(3)}
    arrays = Download(tensors, ByteLayout.of(tensors).pack(tensors)).arrays
    assert arrays["small"].base is None
    assert arrays["large"].base is not None
    np.testing.assert_array_equal(arrays["small"], 1)
