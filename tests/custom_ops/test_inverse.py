"""Inverse of 3x3 matrices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from onnx import NodeProto
from torch import Tensor

from custom_ops.inverse.op import INVERSE, inverse

SHAPES = [(3, 3), (5, 3, 3), (2, 4, 3, 3), (0, 3, 3)]


def matrices(*shape: int) -> Tensor:
    """Random well-conditioned matrices."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) + 3 * torch.eye(3)


@pytest.mark.parametrize("shape", SHAPES)
def test_eager_equals_numpy(shape: tuple[int, ...]) -> None:
    matrix = matrices(*shape)
    np.testing.assert_allclose(inverse(matrix), np.linalg.inv(matrix.double()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_function_body_equals_eager(shape: tuple[int, ...], run_body: Callable[..., np.ndarray]) -> None:
    matrix = matrices(*shape)
    np.testing.assert_allclose(run_body(INVERSE, matrix), inverse(matrix), rtol=0, atol=1e-6)


def test_singular_matrix_gives_no_finite_inverse() -> None:
    assert not inverse(torch.ones(3, 3)).isfinite().any()


def test_torch_contract() -> None:
    """Schema, fake tensors and tracing agree with the implementation."""
    torch.library.opcheck(inverse, (matrices(2, 3, 3),))


def test_node_has_one_input_and_no_attributes() -> None:
    assert INVERSE.inputs == ("matrix",)
    assert INVERSE.attributes == {}


def test_exports_as_one_node(exported_nodes: Callable[..., list[NodeProto]]) -> None:
    (node,) = exported_nodes(INVERSE, matrices(4, 3, 3))
    assert (node.domain, node.op_type) == ("uniad", "Inverse")
