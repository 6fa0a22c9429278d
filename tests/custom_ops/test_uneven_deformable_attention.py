"""Deformable attention whose levels have different numbers of points."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from onnx import NodeProto
from torch import Tensor

from custom_ops.multi_scale_deformable_attention.op import multi_scale_deformable_attention
from custom_ops.multi_scale_deformable_attention.uneven import UNEVEN_DEFORMABLE_ATTENTION, uneven_deformable_attention
from toolkit.doctor.op_trial import Trial
from toolkit.ops.calls import Call
from toolkit.ops.nvrtc import compile_kernel
from toolkit.ops.spec import node_attributes


@dataclass(frozen=True)
class Case:
    """Sizes of one call; `references` are the reference points per query, on each level its own if `by_level`."""

    spatial_shapes: tuple[int, ...]
    level_points: tuple[int, ...]
    references: int = 1
    by_level: bool = False
    batch: int = 1
    queries: int = 5

    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Random value, reference, offsets and logits, of two heads with three channels."""
        random = torch.Generator().manual_seed(0)
        keys = sum(h * w for h, w in zip(self.spatial_shapes[::2], self.spatial_shapes[1::2], strict=True))
        levels, samples = len(self.level_points) if self.by_level else 1, sum(self.level_points)
        return (
            torch.randn(self.batch, keys, 2, 3, generator=random),
            torch.rand(self.batch, self.queries, levels, 2 * self.references, generator=random),
            2 * torch.randn(self.batch, self.queries, 2, 2 * samples, generator=random),
            torch.randn(self.batch, self.queries, 2, samples, generator=random),
        )


THREE_LEVELS = (8, 9, 4, 5, 2, 3)
CASES = {
    "D-FINE": Case(THREE_LEVELS, (3, 6, 3), batch=2),
    "one point beside many": Case((4, 5, 2, 3), (1, 9)),
    "a reference point a level": Case(THREE_LEVELS, (2, 1, 4), by_level=True, batch=2),
    "reference points in turn": Case((4, 5, 2, 3), (8, 4), references=4),
    "as many points": Case((4, 5, 2, 3), (4, 4)),
    "one level": Case((4, 5), (5,)),
    "no queries": Case((4, 5, 2, 3), (3, 6), queries=0),
}


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


def filled_up(case: Case) -> tuple[Tensor, ...]:
    """The inputs with as many points on each level as that with most has: those that are added weigh nothing."""
    value, reference, offsets, logits = case.inputs()
    most, counts = max(case.level_points), list(case.level_points)
    moves = [part.unflatten(3, (-1, 2)) for part in offsets.split([2 * count for count in counts], 3)]
    shares = logits.split(counts, 3)

    def fill(part: Tensor, number: float) -> Tensor:
        missing = (*part.shape[:3], most - part.shape[3], *part.shape[4:])
        return torch.cat([part, part.new_full(missing, number)], 3)

    filled_moves = torch.cat([fill(part, 0.0) for part in moves], 3).flatten(3)
    return value, reference, filled_moves, torch.cat([fill(part, -torch.inf) for part in shares], 3)


def test_eager_equals_the_even_form_with_points_that_weigh_nothing(case: Case) -> None:
    shapes = list(case.spatial_shapes)
    uneven = uneven_deformable_attention(*case.inputs(), shapes, list(case.level_points))
    torch.testing.assert_close(uneven, multi_scale_deformable_attention(*filled_up(case), shapes))


def test_function_body_equals_eager(case: Case, run_body: Callable[..., np.ndarray]) -> None:
    attributes = {"spatial_shapes": list(case.spatial_shapes), "level_points": list(case.level_points)}
    eager = uneven_deformable_attention(*case.inputs(), **attributes)
    body = run_body(UNEVEN_DEFORMABLE_ATTENTION, *case.inputs(), **attributes)
    np.testing.assert_allclose(body, eager, rtol=0, atol=1e-5)


def test_torch_contract(case: Case) -> None:
    """Schema, fake tensors and tracing agree with the implementation."""
    arguments = (*case.inputs(), list(case.spatial_shapes), list(case.level_points))
    torch.library.opcheck(uneven_deformable_attention, arguments)


def test_parts_of_the_op_agree() -> None:
    """As `doctor` examines them: fake, output shape, body, and the kernel's entry point where there is a compiler."""
    Trial.of(UNEVEN_DEFORMABLE_ATTENTION).examine()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_kernel_compiles(case: Case, dtype: str) -> None:
    """For a GPU that need not be there; the plan tells it the points of each level."""
    pytest.importorskip("cuda.bindings", reason="compiling kernels needs cuda-bindings and NVRTC")
    arguments = (*case.inputs(), list(case.spatial_shapes), list(case.level_points))
    launch = Call.of(UNEVEN_DEFORMABLE_ATTENTION, arguments, {}).launch(dtype)
    assert launch.macros["LEVEL_POINTS"] == ",".join(map(str, case.level_points))
    assert (launch.macros["POINTS"], launch.macros["SAMPLES"]) == (max(case.level_points), sum(case.level_points))
    assert UNEVEN_DEFORMABLE_ATTENTION.kernel is not None
    assert compile_kernel(UNEVEN_DEFORMABLE_ATTENTION.kernel.source, "sm_90", launch.macros)


@pytest.mark.parametrize("points", [16, 60])
@pytest.mark.parametrize("side", [10, 40])
def test_kernel_of_many_points_in_narrow_heads_compiles(side: int, points: int) -> None:
    """A block then serves many rows at once, and must not need more shared memory than it has."""
    pytest.importorskip("cuda.bindings", reason="compiling kernels needs cuda-bindings and NVRTC")
    kernel = UNEVEN_DEFORMABLE_ATTENTION.kernel
    assert kernel is not None
    shapes = [(1, side * side + 1, 8, 4), (1, 7, 1, 2), (1, 7, 8, 2 * points + 2), (1, 7, 8, points + 1)]
    strides = [(math.prod(shape[1:]), *shape[1:]) for shape in shapes]
    attributes = {"spatial_shapes": [side, side, 1, 1], "level_points": [points, 1]}
    launch = kernel.plan(shapes, strides, "float32", attributes)
    assert compile_kernel(kernel.source, "sm_90", launch.macros)


@pytest.mark.converts
def test_exports_as_one_node(exported_nodes: Callable[..., list[NodeProto]]) -> None:
    case = CASES["D-FINE"]
    attributes = {"spatial_shapes": list(case.spatial_shapes), "level_points": list(case.level_points)}
    (node,) = exported_nodes(UNEVEN_DEFORMABLE_ATTENTION, *case.inputs(), **attributes)
    assert (node.domain, node.op_type) == ("uniad", "UnevenDeformableAttention")
    assert node_attributes(node) == attributes
