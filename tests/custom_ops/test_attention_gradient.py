"""The kernel of deformable attention's gradients, emulated on the CPU, against float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from custom_ops.multi_scale_deformable_attention.op import MULTI_SCALE_DEFORMABLE_ATTENTION
from custom_ops.multi_scale_deformable_attention.uneven import UNEVEN_DEFORMABLE_ATTENTION
from tests.custom_ops.attention_gradients import off_the_lines
from tests.custom_ops.test_multi_scale_deformable_attention import Case
from tests.custom_ops.test_uneven_deformable_attention import CASES as UNEVEN_CASES
from tests.custom_ops.test_uneven_deformable_attention import Case as UnevenCase
from tests.emulation.emulated_kernel import needs_compiler
from tests.emulation.gradients import emulated_gradients, exact_gradients
from toolkit.doctor.op_trial import Trial
from toolkit.ops.cuda import shapes_and_strides
from toolkit.ops.nvrtc import compile_kernel
from toolkit.ops.spec import CustomOp

TOLERANCE = 2e-5
"""Relative L2 error for either type, for gradients are summed in FP32 of inputs that are already rounded."""

CASES = {
    "UniAD-tiny, cameras": Case((8, 13), 4, points=8, batch=3, heads=8, channels=32, queries=40, spread=3),
    "UniAD-tiny, BEV": Case((50, 50), batch=2, heads=8, channels=32, queries=50),
    "a reference point a level": Case((4, 5, 2, 3, 1, 2), by_level=True, batch=2),
    "a pillar a level, for all batches": Case((4, 5, 2, 3), 2, by_level=True, shared=True, batch=3),
    "channels for five lanes": Case((7, 9), points=3, batch=2, heads=3, channels=20, queries=33),
    "a channel": Case((4, 5), points=1, heads=1, channels=1, queries=3),
    "more channels than lanes": Case((7, 9), 2, heads=2, channels=160, queries=9),
    "no queries": Case((4, 5, 2, 3), queries=0),
}


@dataclass(frozen=True)
class Call:
    """A call of an op."""

    op: CustomOp
    inputs: tuple[Tensor, ...]
    attributes: dict[str, Any]

    @property
    def gradient(self) -> Tensor:
        """Of the output, made up."""
        value, reference, *_ = self.inputs
        shape = (len(value), reference.shape[1], *value.shape[2:])
        return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(value.dtype)


def even(case: Case, dtype: torch.dtype = torch.float32) -> Call:
    shapes = list(case.spatial_shapes)
    inputs = tuple(x.to(dtype) for x in case.inputs())
    inputs = off_the_lines(inputs, shapes, [case.points] * (len(shapes) // 2))
    return Call(MULTI_SCALE_DEFORMABLE_ATTENTION, inputs, {"spatial_shapes": shapes})


def uneven(case: UnevenCase) -> Call:
    shapes, points = list(case.spatial_shapes), list(case.level_points)
    inputs = off_the_lines(case.inputs(), shapes, points)
    return Call(UNEVEN_DEFORMABLE_ATTENTION, inputs, {"spatial_shapes": shapes, "level_points": points})


def assert_equals_float64(call: Call) -> None:
    found = emulated_gradients(call.op, call.inputs, call.attributes, call.gradient)
    expected = exact_gradients(call.op, call.inputs, call.attributes, call.gradient)
    for name, actual, wanted in zip(call.op.inputs, found, expected, strict=True):
        error, size = (actual.double() - wanted).norm(), wanted.norm()
        assert error <= TOLERANCE * size, f"{name}: {error / size:.1e}"


@needs_compiler
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_float64(case: Case) -> None:
    assert_equals_float64(even(case))


@needs_compiler
@pytest.mark.parametrize("name", ["UniAD-tiny, cameras", "channels for five lanes"])
def test_half_precision_equals_float64(name: str) -> None:
    """Gradients are FP32 here, of inputs that are not; the output's gradient is rounded too."""
    assert_equals_float64(even(CASES[name], torch.float16))


@needs_compiler
@pytest.mark.parametrize("name", ["D-FINE", "reference points in turn"])
def test_uneven_levels_equal_float64(name: str) -> None:
    assert_equals_float64(uneven(UNEVEN_CASES[name]))


@needs_compiler
def test_far_outside_the_map_nothing_has_a_gradient() -> None:
    call = even(CASES["a reference point a level"])
    value, reference, offsets, logits = call.inputs
    for far in (1e30, float("nan")):
        inputs = (value, reference + far, offsets, logits)
        found = emulated_gradients(call.op, inputs, call.attributes, call.gradient)
        assert not any(x.any() for x in found)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_120"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_compiles(dtype: str, architecture: str) -> None:
    """For GPUs that need not be there, of which some add several channels at once."""
    pytest.importorskip("cuda.bindings", reason="compiling kernels needs cuda-bindings and NVRTC")
    call = even(CASES["UniAD-tiny, cameras"])
    kernel = call.op.backward
    assert kernel is not None
    launch = kernel.plan(*shapes_and_strides((*call.inputs, call.gradient)), dtype, call.attributes)
    assert compile_kernel(kernel.source, architecture, launch.macros)


@pytest.mark.parametrize("op", [MULTI_SCALE_DEFORMABLE_ATTENTION, UNEVEN_DEFORMABLE_ATTENTION], ids=lambda op: op.name)
def test_entry_point_takes_what_its_launch_gives(op: CustomOp) -> None:
    """As `doctor` examines it."""
    Trial.of(op).examine()
