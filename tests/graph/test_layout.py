"""Layouts say where each element of a tensor comes from: compared with arrays of positions."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.graph.deformable_attention.layout import Layout, joined, side_by_side
from toolkit.graph.deformable_attention.views import strides_along
from toolkit.graph.unfit import Unfit

SHAPE = (2, 6, 4)
POSITIONS = np.arange(48).reshape(SHAPE)


def positions(layout: Layout) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Where in the source each element of a layout stands."""
    places = np.array(layout.offset)
    for axis in layout.axes:
        places = np.add.outer(places, strides_along(axis))
    return places


def test_a_layout_follows_what_is_done_to_the_tensor() -> None:
    layout = Layout.of(SHAPE).transpose([1, 0, 2]).reshape((3, 2, 8)).slice(0, 1, 2).insert(1).expand((2, 5, 2, 8))
    expected = POSITIONS.transpose(1, 0, 2).reshape(3, 2, 8)[1:3, None]
    np.testing.assert_array_equal(positions(layout), np.broadcast_to(expected, (2, 5, 2, 8)))
    assert not layout.is_plain


def test_what_cancels_leaves_no_trace() -> None:
    layout = Layout.of(SHAPE).reshape((2, 24)).transpose([1, 0]).reshape((6, 4, 2)).transpose([2, 0, 1])
    assert layout.is_plain
    assert layout.factors == Layout.of(SHAPE).factors


def test_part_of_a_merged_axis_is_taken_along_the_outer_one() -> None:
    layout = Layout.of(SHAPE).transpose([2, 0, 1]).reshape((4, 12)).transpose([1, 0]).slice(0, 6, 6)
    np.testing.assert_array_equal(positions(layout), POSITIONS.transpose(2, 0, 1).reshape(4, 12).T[6:])


def test_views_of_views_are_views_of_the_source() -> None:
    source = Layout.of(SHAPE).transpose([2, 0, 1])
    layout = Layout.of((4, 2, 6)).transpose([1, 0, 2]).through(source)
    np.testing.assert_array_equal(positions(layout), POSITIONS.transpose(2, 0, 1).transpose(1, 0, 2))


def test_evenly_spaced_parts_are_one_view() -> None:
    parts = [Layout.of(SHAPE).slice(1, start, 2) for start in (0, 2, 4)]
    np.testing.assert_array_equal(positions(joined(parts)), np.stack(np.split(POSITIONS, 3, 1)))


@pytest.mark.parametrize("ends", [(2, 4, 6), (1, 5, 6), (3, 4, 6)])
def test_parts_side_by_side_are_one_view(ends: tuple[int, ...]) -> None:
    """Whether they are as long as each other or not."""
    turned, lengths = Layout.of(SHAPE).transpose([2, 1, 0]), np.diff([0, *ends])
    parts = [turned.slice(1, end - length, length) for end, length in zip(ends, lengths.tolist(), strict=True)]
    np.testing.assert_array_equal(positions(side_by_side(parts, 1)), POSITIONS.transpose(2, 1, 0))


def test_parts_that_do_not_lie_side_by_side_are_refused() -> None:
    layout = Layout.of(SHAPE)
    first, second = layout.slice(1, 0, 2), layout.slice(1, 2, 4)
    with pytest.raises(Unfit, match="levels of 4, 2 do not follow each other in one tensor"):
        side_by_side([second, first], 1)
    with pytest.raises(Unfit, match="levels of 2, 3 do not follow"):
        side_by_side([first, layout.slice(1, 3, 3)], 1)
    with pytest.raises(Unfit, match="differ in their shape or order"):
        side_by_side([first, second.slice(0, 0, 1)], 1)


def test_what_is_no_strided_view_is_refused() -> None:
    layout = Layout.of(SHAPE)
    with pytest.raises(Unfit, match="mixes axes"):
        layout.transpose([1, 0, 2]).reshape((4, 12))
    with pytest.raises(Unfit, match="cuts through"):
        layout.transpose([1, 0, 2]).reshape((12, 4)).slice(0, 1, 2)
    with pytest.raises(Unfit, match="do not follow"):
        joined([layout.slice(1, start, 1) for start in (0, 1, 3)])
    with pytest.raises(Unfit, match="number of elements"):
        layout.reshape((2, 12))
