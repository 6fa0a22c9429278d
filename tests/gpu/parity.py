"""How far a kernel may be from the op's eager implementation in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 2e-5, torch.float16: 1e-3}
"""Relative L2 error. FP32 locations on a map of 200 cells are exact to 1e-5 of a cell."""


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """L2 norms; infinite if an output that is zero throughout is not so exactly. NaN anywhere gives NaN."""
    error, size = (actual.double() - expected).norm(), expected.norm()
    return float(error / size) if error or size else 0.0


def assert_parity(op: Callable[..., Tensor], inputs: tuple[Tensor, ...], *attributes: Any) -> None:
    """The op's kernel gives what its eager implementation gives in float64 on the same, already rounded, inputs."""
    actual = op(*inputs, *attributes)
    expected = op._init_fn(*(x.double() for x in inputs), *attributes)  # type: ignore[attr-defined]  # torch's own
    assert (actual.dtype, actual.shape) == (inputs[0].dtype, expected.shape)
    assert relative_error(actual, expected) <= TOLERANCE[actual.dtype]


def shifted(x: Tensor) -> Tensor:
    """A copy that starts one element after a boundary of 16 bytes."""
    return torch.cat((x.new_zeros(1), x.flatten()))[1:].view_as(x)


def padded(x: Tensor) -> Tensor:
    """A copy of which each row along the last axis is followed by a gap."""
    return torch.cat((x, x[..., :1]), -1)[..., :-1]


def turned(x: Tensor) -> Tensor:
    """A copy whose last axis has the largest stride."""
    return x.movedim(-1, 0).contiguous().movedim(0, -1)
