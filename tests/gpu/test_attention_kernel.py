"""The kernel of deformable attention against float64, on fresh random inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from custom_ops.multi_scale_deformable_attention.op import NOWHERE, multi_scale_deformable_attention
from custom_ops.multi_scale_deformable_attention.uneven import uneven_deformable_attention
from tests.gpu.parity import TOLERANCE, assert_parity, padded, shifted, turned
from toolkit.errors import InputError

pytestmark = pytest.mark.usefixtures("poisoned_memory")

BASE_LEVELS = (116, 200, 58, 100, 29, 50, 15, 25)


@dataclass(frozen=True)
class Case:
    """Sizes of one call; `by_level`: each level has reference points of its own; `shared`: all batches the same."""

    batch: int
    spatial_shapes: tuple[int, ...]
    queries: int
    points: int = 4
    references: int = 1
    heads: int = 8
    channels: int = 32
    by_level: bool = False
    shared: bool = False
    level_points: tuple[int, ...] = ()
    """Where the levels differ in them; `points` then counts for nothing."""

    @property
    def levels(self) -> int:
        return len(self.spatial_shapes) // 2

    @property
    def keys(self) -> int:
        return sum(h * w for h, w in zip(self.spatial_shapes[::2], self.spatial_shapes[1::2], strict=True))

    def inputs(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Value, reference (partly outside the map), offsets, logits."""
        samples = sum(self.level_points) or self.levels * self.points
        reference = (1 if self.shared else self.batch, self.queries, self.levels if self.by_level else 1)
        inputs = (
            torch.randn(self.batch, self.keys, self.heads, self.channels, device="cuda"),
            torch.rand(*reference, 2 * self.references, device="cuda") * 1.4 - 0.2,
            4 * torch.randn(self.batch, self.queries, self.heads, 2 * samples, device="cuda"),
            torch.randn(self.batch, self.queries, self.heads, samples, device="cuda"),
        )
        return tuple(x.to(dtype) for x in inputs)


CASES = {
    "tiny spatial": Case(6, (8, 13), 2500, points=8, references=4),
    "tiny temporal": Case(2, (50, 50), 2500),
    "tiny track decoder": Case(1, (50, 50), 901),
    "tiny track decoder, all rows": Case(1, (50, 50), 1150),
    "tiny map encoder": Case(1, (50, 50), 2500),
    "tiny map decoder": Case(1, (50, 50), 300),
    "tiny motion": Case(1, (50, 50), 129 * 72),
    "base spatial": Case(6, BASE_LEVELS, 10000, points=8, references=4),
    "base temporal": Case(2, (200, 200), 40000),
    "base track decoder": Case(1, (200, 200), 901),
    "base map encoder": Case(1, (200, 200), 40000),
    "base map decoder": Case(1, (200, 200), 300),
    "base motion": Case(1, (200, 200), 129 * 72),
    "a reference point a level": Case(2, BASE_LEVELS, 1000, by_level=True),
    "a pillar a level, for all batches": Case(3, (29, 50, 15, 25), 1000, 8, 4, by_level=True, shared=True),
    "a reference point for all batches": Case(2, (50, 50), 2500, shared=True),
    "five levels": Case(1, (20, 20, 10, 10, 5, 5, 3, 3, 2, 2), 77, heads=4, channels=16),
    "five levels with references": Case(1, (20, 20, 10, 10, 5, 5, 3, 3, 2, 2), 77, heads=4, channels=16, by_level=True),
    "odd channels": Case(2, (7, 9), 33, points=3, heads=3, channels=5),
    "many channels": Case(1, (7, 9), 33, references=2, heads=2, channels=160),
    "one query": Case(1, (3, 3), 1, points=1, heads=1, channels=8),
    "no queries": Case(2, (5, 5), 0),
}


SMALL_LEVELS = (80, 80, 40, 40, 20, 20)
UNEVEN_CASES = {
    "D-FINE": Case(1, SMALL_LEVELS, 300, level_points=(3, 6, 3)),
    "D-FINE, several images": Case(4, SMALL_LEVELS, 300, level_points=(3, 6, 3)),
    "most points first": Case(2, (20, 20, 10, 10), 1000, level_points=(9, 2)),
    "in shared memory": Case(2, (8, 13, 3, 4), 500, level_points=(4, 12)),
    "one point beside many": Case(2, (20, 20, 10, 10, 5, 5), 77, heads=4, channels=16, level_points=(1, 17, 4)),
    "reference points in turn": Case(2, (29, 50, 15, 25), 1000, references=4, by_level=True, level_points=(8, 4)),
    "a reference point a level, for all batches": Case(
        3, SMALL_LEVELS, 100, by_level=True, shared=True, level_points=(2, 3, 5)
    ),
    "odd channels": Case(2, (7, 9, 3, 2), 33, heads=3, channels=5, level_points=(3, 1)),
    "many channels": Case(1, (7, 9, 4, 4), 33, heads=2, channels=160, level_points=(2, 5)),
    "more points than lanes": Case(2, (20, 20, 10, 10), 100, channels=4, level_points=(16, 6)),
    "as many points": Case(2, (20, 20, 10, 10), 100, level_points=(8, 8)),
    "one level": Case(2, (7, 9), 33, level_points=(5,)),
    "a large map": Case(2, BASE_LEVELS, 10000, level_points=(8, 3, 5, 1)),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", UNEVEN_CASES.values(), ids=UNEVEN_CASES)
def test_uneven_levels_equal_float64(case: Case, dtype: torch.dtype) -> None:
    shapes, points = list(case.spatial_shapes), list(case.level_points)
    assert_parity(uneven_deformable_attention, case.inputs(dtype), shapes, points)


def test_as_many_points_on_each_level_are_the_even_form() -> None:
    """Both launch the same code."""
    case = UNEVEN_CASES["as many points"]
    inputs, shapes = case.inputs(torch.float32), list(case.spatial_shapes)
    uneven = uneven_deformable_attention(*inputs, shapes, list(case.level_points))
    assert torch.equal(uneven, multi_scale_deformable_attention(*inputs, shapes))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_float64(case: Case, dtype: torch.dtype) -> None:
    assert_parity(multi_scale_deformable_attention, case.inputs(dtype), list(case.spatial_shapes))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("laid_out", [shifted, padded, turned])
def test_strided_inputs(laid_out: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    case = CASES["tiny temporal"]
    inputs = tuple(laid_out(x) for x in case.inputs(dtype))
    assert_parity(multi_scale_deformable_attention, inputs, list(case.spatial_shapes))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_expanded_batches(dtype: torch.dtype) -> None:
    """All batches may read the same offsets and logits, which are not copied."""
    case = CASES["tiny spatial"]
    value, reference, offsets, logits = case.inputs(dtype)
    inputs = (value, reference, offsets[:1].expand_as(offsets), logits[:1].expand_as(logits))
    assert_parity(multi_scale_deformable_attention, inputs, list(case.spatial_shapes))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_batches_that_lie_apart(dtype: torch.dtype) -> None:
    """As in a part of a larger tensor, also if it puts the second batch at an odd address."""
    case = CASES["tiny temporal"]
    value, *rest = case.inputs(dtype)
    apart = [torch.cat((x.flatten(1), x.new_zeros(2, 3)), 1)[:, :-3].view_as(x) for x in rest]
    assert_parity(multi_scale_deformable_attention, (value, *apart), list(case.spatial_shapes))


def test_far_outside_the_map_is_zero() -> None:
    case = CASES["tiny track decoder"]
    value, reference, offsets, logits = case.inputs(torch.float32)
    for far in (1e3, 1e30, float("inf")):
        attended = multi_scale_deformable_attention(value, reference + far, offsets, logits, list(case.spatial_shapes))
        assert not attended.any()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ["tiny spatial", "base spatial", "a pillar a level, for all batches"])
def test_queries_that_are_nowhere(name: str, dtype: torch.dtype) -> None:
    """As cells that a camera does not see: single ones, and all that a map has."""
    case = CASES[name]
    value, reference, offsets, logits = case.inputs(dtype)
    reference[torch.rand(reference.shape[:2], device="cuda") < 0.3] = NOWHERE
    reference[-1, case.queries // 2 :] = NOWHERE
    assert_parity(multi_scale_deformable_attention, (value, reference, offsets, logits), list(case.spatial_shapes))


def test_nothing_is_read_of_a_map_in_which_no_query_is() -> None:
    case = CASES["base spatial"]
    value, reference, offsets, logits = case.inputs(torch.float32)
    reference[0], offsets[0], logits[0] = NOWHERE, float("nan"), float("nan")
    attended = multi_scale_deformable_attention(value, reference, offsets, logits, list(case.spatial_shapes))
    assert not attended[0].any()
    assert attended[1:].isfinite().all()


def test_sizes_that_disagree() -> None:
    """The kernel would read beyond the value."""
    inputs = CASES["tiny temporal"].inputs(torch.float32)
    with pytest.raises(InputError, match=r"deformable attention has 2500 keys, but .* \[\(50, 51\)\]"):
        multi_scale_deformable_attention(*inputs, [50, 51])
    with pytest.raises(InputError, match="takes inputs of one dtype and device"):
        multi_scale_deformable_attention(inputs[0].half(), *inputs[1:], [50, 50])
