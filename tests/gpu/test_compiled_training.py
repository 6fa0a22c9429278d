"""`train --compile` on a GPU: what torch compiles around an op's gradients leaves their kernel as it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from custom_ops.multi_scale_deformable_attention.op import MULTI_SCALE_DEFORMABLE_ATTENTION
from custom_ops.multi_scale_deformable_attention.uneven import UNEVEN_DEFORMABLE_ATTENTION
from tests.gpu.parity import TOLERANCE, relative_error
from tests.gpu.test_attention_gradient import attributes_of, inputs_of
from tests.gpu.test_attention_kernel import CASES, UNEVEN_CASES
from toolkit.ops.spec import CustomOp


@pytest.mark.parametrize(
    ("op", "case"),
    [
        (MULTI_SCALE_DEFORMABLE_ATTENTION, CASES["tiny track decoder"]),
        (UNEVEN_DEFORMABLE_ATTENTION, next(iter(UNEVEN_CASES.values()))),
    ],
    ids=["even", "uneven"],
)
def test_compiled_gradients_are_those_without(op: CustomOp, case: object) -> None:
    inputs, attributes = inputs_of(case, torch.float32), attributes_of(case)  # type: ignore[arg-type]

    def scaled(*tensors: Tensor) -> Tensor:
        result: Tensor = 2 * op.torch_op(*(x * 1.0 for x in tensors), **attributes)
        return result

    def gradients(function: Callable[..., Tensor]) -> list[Tensor]:
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        with torch.enable_grad():
            function(*leaves).square().sum().backward()
        return [x.grad for x in leaves if x.grad is not None]

    expected = gradients(scaled)
    found = gradients(torch.compile(scaled, fullgraph=True))
    assert len(found) == len(expected) == len(inputs)
    for actual, wanted in zip(found, expected, strict=True):
        assert relative_error(actual, wanted.double()) <= TOLERANCE[torch.float32]
