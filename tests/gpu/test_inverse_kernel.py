"""The kernel of the matrix inverse against float64, on fresh random inputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from custom_ops.inverse.op import inverse
from tests.gpu.parity import TOLERANCE, assert_parity, padded, relative_error, shifted, turned

pytestmark = pytest.mark.usefixtures("poisoned_memory")

SHAPES = [(3, 3), (1, 1, 3, 3), (4, 4), (6, 4, 4), (2, 3, 5, 4, 4), (100_003, 3, 3), (100_003, 4, 4), (0, 3, 3), (2, 2)]


def matrices(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Random well-conditioned matrices."""
    size = shape[-1]
    return (torch.rand(shape, device="cuda") + size * torch.eye(size, device="cuda")).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_float64(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    matrix = matrices(shape, dtype)
    assert_parity(inverse, (matrix,))
    assert relative_error(inverse(matrix), torch.linalg.inv(matrix.double())) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize("laid_out", [shifted, padded, turned])
def test_strided_input(laid_out: Callable[[Tensor], Tensor], size: int, dtype: torch.dtype) -> None:
    matrix = laid_out(matrices((50, size, size), dtype))
    assert_parity(inverse, (matrix,))
    assert_parity(inverse, (matrix[::2],))
    assert_parity(inverse, (matrix[:1].expand(7, size, size),))


def test_half_precision_is_computed_in_float32() -> None:
    """Products of three such entries leave the range of FP16."""
    matrix = 1000 * matrices((50, 4, 4), torch.float16)
    assert_parity(inverse, (matrix,))
