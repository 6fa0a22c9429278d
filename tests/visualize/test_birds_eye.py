"""The view from above: things are drawn where they are, and parts that a model lacks are left out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.visualize.drives import box, cells, map_with, occupancy_with, plan_ahead, result, straight_on
from toolkit.data.annotations import Annotation
from toolkit.runtime.results import FrameResult
from toolkit.visualize.birds_eye import EgoSquare, draw_birds_eye
from toolkit.visualize.canvas import Picture
from toolkit.visualize.ego import smooth_path

VIEW = EgoSquare(reach=50.0, size=800, ring_step=10)


def drawn(moment: FrameResult, *annotations: Annotation) -> Picture:
    return draw_birds_eye(moment, VIEW, annotations)


def changed(moment: FrameResult, *annotations: Annotation) -> np.ndarray:
    """x and y [n, 2] (m) of the pixels that differ from those of an empty moment."""
    rows, columns = np.nonzero((drawn(moment, *annotations) != drawn(result())).any(-1))
    return np.stack([columns / VIEW.scale - VIEW.reach, VIEW.reach - rows / VIEW.scale], axis=-1)


def test_map_cells_are_drawn_in_place() -> None:
    """2.048 m wide, row 45 and column 10 from the rear left."""
    points = changed(result(map=map_with(cells(45, 10))))
    np.testing.assert_allclose(points.mean(0), (10.5 * 2.048 - 51.2, 45.5 * 2.048 - 51.2), atol=0.1)
    np.testing.assert_allclose(np.ptp(points, axis=0), 2.048, atol=0.2)


def test_occupancy_cells_are_half_a_metre_wide() -> None:
    low, high = (drawn(result(occupancy=occupancy_with(cells(row, 47)))).astype(int) for row in (4, 40))
    rows, columns = np.nonzero(np.abs(low - high).sum(-1) > 60)
    assert columns.mean() / VIEW.scale - VIEW.reach == pytest.approx(47.5 * 0.5 - 12.5, abs=0.1)
    assert (rows.max() - rows.min()) / VIEW.scale == pytest.approx(36 * 0.5 + 0.5, abs=0.2)


def test_grids_of_uniad_base_are_drawn_over_their_own_ranges() -> None:
    """Map cells of 0.512 m to 51.2 m, occupancy cells of 0.5 m to 50 m."""
    grid = np.zeros((200, 200), np.bool_)
    grid[150:160, 20:30] = True
    lanes = np.zeros((3, 200, 200), np.bool_)
    road = replace(map_with(grid), lanes=lanes, lane_scores=lanes.astype(np.float32))
    points = changed(result(map=road))
    np.testing.assert_allclose(points.mean(0), (25 * 0.512 - 51.2, 155 * 0.512 - 51.2), atol=0.1)
    np.testing.assert_allclose(np.ptp(points, axis=0), 5.12, atol=0.2)
    space = replace(occupancy_with(grid), x_range=(-50.0, 50.0), y_range=(-50.0, 50.0))
    points = changed(result(occupancy=space))
    inner = points[np.abs(points).max(1) < 49]
    np.testing.assert_allclose(inner.mean(0), (25 * 0.5 - 50, 155 * 0.5 - 50), atol=0.2)


def test_a_box_is_drawn_with_velocity_and_motion() -> None:
    still = changed(result(boxes=(box((30, 30)),)))
    moving = changed(result(boxes=(box((30, 30), velocity=(0, 5), motion=straight_on((30, 30))),)))
    assert still[:, 1].max() == pytest.approx(32, abs=0.3)
    assert still[:, 0].min() == pytest.approx(29, abs=0.3)
    assert moving[:, 1].max() == pytest.approx(42, abs=0.6)


def test_likelier_modes_are_stronger() -> None:
    """Six lines side by side, of falling probability."""
    motion = straight_on((30, 20))
    motion.trajectories[..., 0] += 2 * np.arange(6)[:, None]
    picture = drawn(result(boxes=(box((30, 20), motion=motion),))).astype(int)
    empty = drawn(result()).astype(int)
    row = round((VIEW.reach - 29) * VIEW.scale)
    strength = [
        np.abs(picture - empty)[row, round((30 + 2 * i + VIEW.reach) * VIEW.scale) + np.arange(-2, 3)].max()
        for i in (0, 1, 2, 4)
    ]
    assert strength == sorted(strength, reverse=True)


def test_the_plan_starts_at_the_ego() -> None:
    points = changed(result(plan=plan_ahead()))
    assert abs(points[:, 0].mean()) < 0.2
    assert points[:, 1].max() == pytest.approx(24, abs=0.8), "with half a dot"


def test_a_smooth_path_goes_through_all_points() -> None:
    points = np.array([(0, 4), (1, 8), (3, 11)], np.float32)
    path = smooth_path(points)
    for point in points:
        assert np.linalg.norm(path - point, axis=1).min() < 1e-6
    assert np.abs(np.diff(path, axis=0)).max() < 1


def test_ground_truth_is_drawn_where_it_is() -> None:
    truth = Annotation("a", "car", (-20.0, 10.0, -1.0), (2.0, 4.0, 1.5), math.pi / 2, (0.0, 0.0))
    np.testing.assert_allclose(changed(result(), truth).mean(0), (-20, 10), atol=0.3)


def test_an_unknown_class_of_a_third_party_model_is_drawn() -> None:
    assert changed(result(boxes=(box((-30, -30), label="hay_bale"),)))[:, 0].mean() < -25


def test_a_box_out_of_view_leaves_nothing() -> None:
    assert len(changed(result(boxes=(box((70, 0)),)))) == 0
