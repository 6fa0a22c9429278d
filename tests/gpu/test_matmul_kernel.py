"""The kernel for products of two computed matrices against float64 on fresh random inputs, in every precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.gpu.parity import relative_error
from tests.gpu.test_compiled_kernels import TOLERANCE
from toolkit.engines.gpu.compiled.operators import matmul
from toolkit.precision import Precision

SIZES = {
    "occupancy of agents": (5, 128, 256, 2704),
    "agents' masks": (1, 49, 256, 128),
    "a map's masks": (8, 100, 32, 2500),
    "odd": (3, 17, 96, 33),
    "a query over many cells": (1, 8, 256, 8200),
    "cells by their weights": (25, 8, 320, 256),
}
"""Batch, rows, summed elements and columns."""


def x(*shape: int) -> Tensor:
    return torch.randn(shape, device="cuda")


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("layout", ["sums together", "columns together", "slices"])
def test_products_of_computed_matrices(layout: str, size: tuple[int, int, int, int], precision: Precision) -> None:
    """Of any layout; calls repeat to the last bit."""
    batch, rows, length, columns = size
    a, b = x(batch, rows, length), x(batch, columns, length).transpose(1, 2)
    if layout == "columns together":
        a, b = a.transpose(1, 2).contiguous().transpose(1, 2), b.contiguous()
    if layout == "slices":
        a = x(rows, batch, 2 * length)[..., 3 : 3 + length].transpose(0, 1)
        b = x(columns, batch, length + 5)[..., :length].permute(1, 2, 0)
    actual = matmul(a, b, str(precision))
    expected = a.double() @ b.double()
    assert (actual.dtype, actual.shape) == (torch.float32, expected.shape)
    assert actual.is_contiguous()
    assert relative_error(actual, expected) < TOLERANCE[precision]
    assert torch.equal(matmul(a, b, str(precision)), actual)
