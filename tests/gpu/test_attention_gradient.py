"""The kernel of deformable attention's gradients against float64, on fresh random inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from custom_ops.inverse.op import INVERSE
from custom_ops.modulated_deformable_convolution.op import MODULATED_DEFORMABLE_CONVOLUTION
from custom_ops.multi_scale_deformable_attention.op import MULTI_SCALE_DEFORMABLE_ATTENTION
from custom_ops.multi_scale_deformable_attention.uneven import UNEVEN_DEFORMABLE_ATTENTION
from custom_ops.rotate.op import ROTATE
from tests.custom_ops.attention_gradients import off_the_lines
from tests.gpu.parity import TOLERANCE, padded, relative_error, shifted, turned
from tests.gpu.test_attention_kernel import CASES, UNEVEN_CASES, Case
from tests.sample_ops.blend import BLEND
from toolkit.doctor.check import Status
from toolkit.doctor.op_trial import Trial
from toolkit.doctor.self_test import check_kernels
from toolkit.ops import gradient
from toolkit.ops.gradient import recomputed_gradients
from toolkit.ops.spec import CustomOp

EVEN, UNEVEN = MULTI_SCALE_DEFORMABLE_ATTENTION, UNEVEN_DEFORMABLE_ATTENTION
COMPARED = (
    "tiny spatial",
    "tiny temporal",
    "tiny track decoder",
    "tiny motion",
    "base spatial",
    "base temporal",
    "a pillar a level, for all batches",
    "five levels with references",
    "odd channels",
    "many channels",
    "no queries",
)
UNEVEN_COMPARED = ("D-FINE", "reference points in turn")


def attributes_of(case: Case) -> dict[str, Any]:
    shapes = {"spatial_shapes": list(case.spatial_shapes)}
    return shapes | ({"level_points": list(case.level_points)} if case.level_points else {})


def inputs_of(case: Case, dtype: torch.dtype) -> tuple[Tensor, ...]:
    points = case.level_points or (case.points,) * case.levels
    return off_the_lines(case.inputs(dtype), case.spatial_shapes, points)


def through_autograd(
    op: CustomOp, inputs: Sequence[Tensor], attributes: dict[str, Any]
) -> tuple[Tensor, list[Tensor | None]]:
    """A gradient of the output, made up, and those of all inputs that it leads to."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    with torch.enable_grad():
        output = op.torch_op(*leaves, **attributes)
        incoming = torch.randn_like(output)
        output.backward(incoming)
    return incoming, [x.grad for x in leaves]


def assert_gradients(op: CustomOp, inputs: Sequence[Tensor], attributes: dict[str, Any]) -> None:
    """Those of the kernel are what the op's own code gives in float64 on the same, already rounded, inputs."""
    incoming, found = through_autograd(op, inputs, attributes)
    exact = [x.double() for x in inputs]
    expected = recomputed_gradients(op, exact, attributes, [incoming.double()], [True] * len(inputs))
    for name, x, actual, wanted in zip(op.inputs, inputs, found, expected, strict=True):
        assert actual is not None
        assert wanted is not None
        assert (actual.dtype, actual.shape) == (x.dtype, x.shape)
        assert relative_error(actual, wanted) <= TOLERANCE[actual.dtype], name


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", COMPARED)
def test_equals_float64(name: str, dtype: torch.dtype) -> None:
    assert_gradients(EVEN, inputs_of(CASES[name], dtype), attributes_of(CASES[name]))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", UNEVEN_COMPARED)
def test_uneven_levels_equal_float64(name: str, dtype: torch.dtype) -> None:
    assert_gradients(UNEVEN, inputs_of(UNEVEN_CASES[name], dtype), attributes_of(UNEVEN_CASES[name]))


@pytest.mark.parametrize("laid_out", [shifted, padded, turned])
def test_strided_inputs(laid_out: Callable[[Tensor], Tensor]) -> None:
    case = CASES["tiny temporal"]
    inputs = [laid_out(x) for x in inputs_of(case, torch.float32)]
    assert_gradients(EVEN, inputs, attributes_of(case))


def test_gradient_that_is_the_same_everywhere() -> None:
    """As that of a sum, which has no memory of its own."""
    case = CASES["tiny track decoder"]
    inputs, attributes = inputs_of(case, torch.float32), attributes_of(case)
    found = []
    for incoming in (
        torch.ones(1, device="cuda"),
        torch.ones(1, case.queries, case.heads, case.channels, device="cuda"),
    ):
        leaves = [x.detach().requires_grad_() for x in inputs]
        with torch.enable_grad():
            output = EVEN.torch_op(*leaves, **attributes)
            output.backward(incoming.expand_as(output))
        found.append([x.grad for x in leaves])
    for expanded, dense in zip(*found, strict=True):
        assert expanded is not None
        assert dense is not None
        # The kernel's sums differ in their last bits from run to run.
        assert relative_error(expanded, dense.double()) <= TOLERANCE[torch.float32]


def test_what_needs_no_gradient_gets_none() -> None:
    case = CASES["tiny temporal"]
    value, reference, offsets, logits = case.inputs(torch.float32)
    with torch.enable_grad():
        EVEN.torch_op(value, reference, offsets.requires_grad_(), logits, **attributes_of(case)).sum().backward()
    assert offsets.grad is not None
    assert value.grad is None


def test_mixed_precision_computes_in_fp32() -> None:
    case = CASES["tiny temporal"]
    inputs = [x.requires_grad_() for x in case.inputs(torch.bfloat16)]
    with torch.enable_grad(), torch.autocast("cuda", torch.bfloat16):
        output = EVEN.torch_op(*inputs, **attributes_of(case))
        output.sum().backward()
    assert output.dtype == torch.float32
    assert {x.grad.dtype for x in inputs if x.grad is not None} == {torch.bfloat16}


@pytest.mark.filterwarnings("ignore:grid_sampler_2d_backward_cuda")
def test_deterministic_algorithms_do_not_take_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch then says of its own whether they are."""
    case = CASES["tiny track decoder"]
    inputs, attributes = inputs_of(case, torch.float32), attributes_of(case)
    monkeypatch.setattr(gradient, "launch_backward", None)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert_gradients(EVEN, inputs, attributes)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("op", [ROTATE, INVERSE, MODULATED_DEFORMABLE_CONVOLUTION], ids=lambda op: op.name)
def test_ops_without_a_backward_kernel_have_gradients(op: CustomOp) -> None:
    """Of their own code, after their kernel."""
    trial = Trial.of(op)
    _, expected = trial.gradients(torch.float64)
    on_gpu = Trial(op, [None if x is None else x.cuda() for x in trial.inputs], trial.attributes, trial.expected)
    _, found = on_gpu.gradients()
    for actual, wanted in zip(found, expected, strict=True):
        assert (actual is None) == (wanted is None)
        if actual is not None and wanted is not None:
            torch.testing.assert_close(actual.cpu().double(), wanted, rtol=1e-4, atol=1e-5)


def test_self_test_compares_backward_kernels() -> None:
    checks = check_kernels([EVEN, UNEVEN, BLEND])
    assert [check.status for check in checks] == [Status.OK] * 3, [check.found for check in checks]
    assert all("the backward kernel differs from torch by" in check.found for check in checks)
