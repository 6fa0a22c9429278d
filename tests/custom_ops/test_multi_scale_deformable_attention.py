"""Multi-scale deformable attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from onnx import NodeProto
from torch import Tensor

from custom_ops.multi_scale_deformable_attention.op import (
    MULTI_SCALE_DEFORMABLE_ATTENTION,
    multi_scale_deformable_attention,
    sum_all_samples,
)
from toolkit.ops.spec import node_attributes


@dataclass(frozen=True)
class Case:
    """Sizes of one call; `references` are the reference points per query, `spread` how far they lie around the map.

    `by_level`: each level has reference points of its own. `shared`: all batches have the same.
    """

    spatial_shapes: tuple[int, ...]
    references: int = 1
    by_level: bool = False
    shared: bool = False
    points: int = 4
    batch: int = 1
    heads: int = 2
    channels: int = 3
    queries: int = 5
    spread: float = 1.0

    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Random value, reference, offsets and logits."""
        generator = torch.Generator().manual_seed(0)
        levels = len(self.spatial_shapes) // 2
        keys = sum(h * w for h, w in zip(self.spatial_shapes[::2], self.spatial_shapes[1::2], strict=True))
        samples = levels * self.points
        value = torch.randn((self.batch, keys, self.heads, self.channels), generator=generator)
        batch, reference_levels = 1 if self.shared else self.batch, levels if self.by_level else 1
        uniform = torch.rand((batch, self.queries, reference_levels, 2 * self.references), generator=generator)
        offsets = torch.randn((self.batch, self.queries, self.heads, 2 * samples), generator=generator)
        logits = torch.randn((self.batch, self.queries, self.heads, samples), generator=generator)
        return value, 0.5 + self.spread * (uniform - 0.5), offsets, logits


CASES = {
    "one level": Case((4, 5)),
    "two levels": Case((4, 5, 2, 3)),
    "five levels": Case((8, 9, 6, 5, 4, 4, 2, 3, 1, 1), batch=2),
    "a pillar of four reference points": Case((4, 5), references=4, points=8, batch=3),
    "a pillar over two levels": Case((4, 5, 2, 3), references=4, points=4),
    "a reference point a level": Case((4, 5, 2, 3, 1, 2), by_level=True, batch=2),
    "a pillar a level": Case((4, 5, 2, 3), references=2, by_level=True, batch=2),
    "a reference point for all batches": Case((4, 5, 2, 3), by_level=True, shared=True, batch=3),
    "one head, one point": Case((4, 5), heads=1, points=1, channels=1),
    "locations outside the map": Case((4, 5, 2, 3), spread=5.0, queries=20),
    "no queries": Case((4, 5, 2, 3), queries=0),
}


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


def bilinear(plane: np.ndarray, x: float, y: float) -> np.ndarray:
    """`plane` [H, W, C] at cell coordinates (cell centres at integers); cells outside count as zero."""
    total = np.zeros(plane.shape[2])
    left, top = math.floor(x), math.floor(y)
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
            total += (1 - abs(x - column)) * (1 - abs(y - row)) * plane[row, column]
    return total


def attend(case: Case, value: np.ndarray, reference: np.ndarray, offsets: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """One batch entry, query and head in float64: value [S, C], reference [L or 1, 2D], offsets [L*P*2]…"""
    weights = np.exp(logits) / np.exp(logits).sum()
    total, sample, start = np.zeros(case.channels), 0, 0
    sizes = zip(case.spatial_shapes[::2], case.spatial_shapes[1::2], strict=True)
    for level, (height, width) in enumerate(sizes):
        plane = value[start : start + height * width].reshape(height, width, case.channels)
        start += height * width
        for point in range(case.points):
            x, y = reference[level % len(reference)].reshape(-1, 2)[point % case.references]
            dx, dy = offsets.reshape(-1, 2)[sample]
            total += weights[sample] * bilinear(plane, x * width + dx - 0.5, y * height + dy - 0.5)
            sample += 1
    return total


def test_eager_equals_the_equation(case: Case) -> None:
    value, reference, offsets, logits = (tensor.double().numpy() for tensor in case.inputs())
    expected = np.zeros((case.batch, case.queries, case.heads, case.channels))
    for b, q, h in np.ndindex(case.batch, case.queries, case.heads):
        expected[b, q, h] = attend(
            case, value[b, :, h], reference[b % len(reference), q], offsets[b, q, h], logits[b, q, h]
        )
    eager = multi_scale_deformable_attention(*case.inputs(), case.spatial_shapes)
    np.testing.assert_allclose(eager, expected, rtol=0, atol=1e-5)


def test_function_body_equals_eager(case: Case, run_body: Callable[..., np.ndarray]) -> None:
    inputs = case.inputs()
    eager = multi_scale_deformable_attention(*inputs, case.spatial_shapes)
    body = run_body(MULTI_SCALE_DEFORMABLE_ATTENTION, *inputs, spatial_shapes=case.spatial_shapes)
    np.testing.assert_allclose(body, eager, rtol=0, atol=1e-5)


def test_torch_contract(case: Case) -> None:
    """Schema, fake tensors and tracing agree with the implementation."""
    torch.library.opcheck(multi_scale_deformable_attention, (*case.inputs(), case.spatial_shapes))


def test_gradients_are_those_of_differences(case: Case) -> None:
    """Of all four inputs, in float64, whatever their sizes."""
    inputs = [each.double().requires_grad_() for each in case.inputs()]
    with torch.enable_grad():
        assert torch.autograd.gradcheck(
            lambda *each: multi_scale_deformable_attention(*each, case.spatial_shapes), inputs, fast_mode=True
        )


def test_inputs_that_need_no_gradient_get_none() -> None:
    case = CASES["two levels"]
    value, reference, offsets, logits = case.inputs()
    with torch.enable_grad():
        offsets.requires_grad_()
        attended = multi_scale_deformable_attention(value, reference, offsets, logits, case.spatial_shapes)
        attended.sum().backward()
    assert offsets.grad is not None
    assert value.grad is None


def test_query_on_a_cell_centre_reads_that_cell() -> None:
    """With no offset, all points of a query read the same cell, whatever their weights."""
    case = Case((4, 5), queries=1)
    value, _, offsets, logits = case.inputs()
    row, column = 2, 3
    reference = torch.tensor([(column + 0.5) / 5, (row + 0.5) / 4]).view(1, 1, 1, 2)
    attended = multi_scale_deformable_attention(value, reference, 0 * offsets, logits, case.spatial_shapes)
    torch.testing.assert_close(attended[0, 0], value[0, row * 5 + column])


def test_offsets_count_cells_of_their_level() -> None:
    """One cell to the right, on a map five cells wide."""
    case = Case((4, 5), queries=1)
    value, reference, offsets, logits = case.inputs()
    offsets = torch.tensor([1.0, 0.0]).repeat(case.points).expand_as(offsets)
    by_offset = multi_scale_deformable_attention(value, reference, offsets, logits, case.spatial_shapes)
    shifted = reference + torch.tensor([1 / 5, 0])
    by_reference = multi_scale_deformable_attention(value, shifted, 0 * offsets, logits, case.spatial_shapes)
    torch.testing.assert_close(by_offset, by_reference)


def test_query_far_outside_reads_zeros() -> None:
    case = Case((4, 5))
    value, reference, offsets, logits = case.inputs()
    assert not multi_scale_deformable_attention(value, reference + 100, offsets, logits, case.spatial_shapes).any()


def test_queries_outside_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As most cells are for a camera: where all points of a query lie outside, nothing is sampled."""
    case = Case((4, 5, 2, 3), batch=2, queries=200, spread=6.0)
    value, reference, offsets, logits = case.inputs()
    reference[:, 100:] += 100  # no batch has more than half of the queries inside
    inputs = (value, reference, offsets, logits, case.spatial_shapes)
    sampled = []

    def watched(plane: Tensor, grid: Tensor, weights: Tensor) -> Tensor:
        sampled.append(grid.shape[1])
        return sum_all_samples(plane, grid, weights)

    monkeypatch.setattr("custom_ops.multi_scale_deformable_attention.op.sum_all_samples", watched)
    attended = multi_scale_deformable_attention(*inputs)
    assert max(sampled) < 100
    monkeypatch.setattr("custom_ops.multi_scale_deformable_attention.op.summed_samples", sum_all_samples)
    torch.testing.assert_close(attended, multi_scale_deformable_attention(*inputs))
    assert not attended[:, 100:].any()


def test_node_has_four_inputs_and_the_sizes_of_the_levels() -> None:
    assert MULTI_SCALE_DEFORMABLE_ATTENTION.inputs == ("value", "reference", "offsets", "logits")
    assert MULTI_SCALE_DEFORMABLE_ATTENTION.attributes == {"spatial_shapes": "List[int]"}


@pytest.mark.converts
def test_exports_as_one_node(exported_nodes: Callable[..., list[NodeProto]]) -> None:
    case = CASES["two levels"]
    (node,) = exported_nodes(MULTI_SCALE_DEFORMABLE_ATTENTION, *case.inputs(), spatial_shapes=case.spatial_shapes)
    assert (node.domain, node.op_type) == ("uniad", "MultiScaleDeformableAttention")
    assert node_attributes(node) == {"spatial_shapes": list(case.spatial_shapes)}
