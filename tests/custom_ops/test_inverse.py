"""Inverse of matrices of up to four rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from onnx import NodeProto
from torch import Tensor

from custom_ops.inverse.op import INVERSE, inverse
from toolkit.errors import InputError

SHAPES = [(3, 3), (5, 3, 3), (2, 4, 3, 3), (0, 3, 3), (4, 4), (5, 4, 4), (2, 1, 3, 4, 4), (0, 2, 4, 4), (2, 2), (1, 1)]


def matrices(*shape: int) -> Tensor:
    """Random well-conditioned matrices."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) + 3 * torch.eye(shape[-1])


@pytest.mark.parametrize("shape", SHAPES)
def test_eager_equals_numpy(shape: tuple[int, ...]) -> None:
    matrix = matrices(*shape)
    np.testing.assert_allclose(inverse(matrix), np.linalg.inv(matrix.double()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_function_body_equals_eager(shape: tuple[int, ...], run_body: Callable[..., np.ndarray]) -> None:
    matrix = matrices(*shape)
    np.testing.assert_allclose(run_body(INVERSE, matrix), inverse(matrix), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [3, 4])
def test_singular_matrix_gives_no_finite_inverse(size: int) -> None:
    assert not inverse(torch.ones(size, size)).isfinite().any()


@pytest.mark.parametrize("size", [3, 4])
def test_half_precision_is_computed_in_float32(size: int) -> None:
    """The error is that of the last rounding, also where intermediate products leave the range of FP16."""
    matrix = (1000 * matrices(20, size, size)).half()
    exact = torch.linalg.inv(matrix.double())
    np.testing.assert_allclose(inverse(matrix), exact, rtol=1e-3, atol=1e-7)


def test_pose_of_a_camera() -> None:
    """The inverse of a rotation R and a translation t is R transposed and -R transposed t."""
    rotation = torch.linalg.qr(matrices(3, 3)).Q
    translation = torch.tensor([[1.5], [-0.3], [900.0]])
    pose = torch.cat((torch.cat((rotation, translation), 1), torch.tensor([[0.0, 0, 0, 1]])))
    inverted = inverse(pose)
    torch.testing.assert_close(inverted[:3, :3], rotation.T)
    torch.testing.assert_close(inverted[:3, 3:], -rotation.T @ translation)


def test_strided_input() -> None:
    matrix = matrices(5, 4, 4)
    torch.testing.assert_close(inverse(matrix.mT), inverse(matrix.mT.contiguous()))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (5, 5), (2, 0, 0)])
def test_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"inverse takes matrices \[..., N, N\] with N from 1 to 4, not"):
        inverse(torch.ones(shape))


@pytest.mark.parametrize("size", [3, 4])
def test_torch_contract(size: int) -> None:
    """Schema, fake tensors and tracing agree with the implementation."""
    torch.library.opcheck(inverse, (matrices(2, size, size),))


def test_node_has_one_input_and_no_attributes() -> None:
    assert INVERSE.inputs == ("matrix",)
    assert INVERSE.attributes == {}


@pytest.mark.converts
def test_exports_as_one_node(exported_nodes: Callable[..., list[NodeProto]]) -> None:
    (node,) = exported_nodes(INVERSE, matrices(4, 3, 3))
    assert (node.domain, node.op_type) == ("uniad", "Inverse")
