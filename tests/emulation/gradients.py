"""An op's backward kernel on the CPU, and what its gradients should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.emulation.emulated_kernel import emulate
from toolkit.ops.cuda import shapes_and_strides
from toolkit.ops.gradient import recomputed_gradients
from toolkit.ops.spec import CustomOp


def emulated_gradients(
    op: CustomOp, inputs: Sequence[Tensor | None], attributes: Mapping[str, Any], gradient: Tensor
) -> list[Tensor]:
    """The gradients, float32, of the floating-point inputs that are given; the op has one output."""
    assert op.backward is not None
    read = (*inputs, gradient)
    dtype = str(gradient.dtype).removeprefix("torch.")
    launch = op.backward.plan(*shapes_and_strides(read), dtype, attributes)
    given = [np.zeros(0, np.float32) if x is None else x.numpy() for x in read]
    floats = [x for port, x in zip(op.signature.inputs, given, strict=False) if port.has_gradient]
    found = emulate(op.backward, launch, given, [np.zeros(x.shape, np.float32) for x in floats])
    kept = [x is not None for port, x in zip(op.signature.inputs, inputs, strict=True) if port.has_gradient]
    return [torch.from_numpy(x) for x, keep in zip(found, kept, strict=True) if keep]


def exact_gradients(
    op: CustomOp, inputs: Sequence[Tensor | None], attributes: Mapping[str, Any], gradient: Tensor
) -> list[Tensor]:
    """The same by the op's own code in float64."""
    ports = op.signature.inputs
    needed = [x is not None and port.has_gradient for port, x in zip(ports, inputs, strict=True)]
    exact = [x.double() if x is not None and x.is_floating_point() else x for x in inputs]
    found = recomputed_gradients(op, exact, attributes, [gradient.double()], needed)
    return [x for x in found if x is not None]
