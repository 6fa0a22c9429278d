"""Boxes and paths appear where the network's own matrices put them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.visualize.drives import CONFIG, GREY, box, frame, plan_ahead, result
from toolkit.config.model import CLASS_NAMES
from toolkit.data.annotations import Annotation
from toolkit.data.frames import Float64Array, Frame
from toolkit.data.preprocess import frame_inputs
from toolkit.runtime.results import FrameResult
from toolkit.visualize.camera_view import draw_camera, looks_back
from toolkit.visualize.ego import nearest_first
from toolkit.visualize.projection import box_corners, ground_height, lidar_to_picture, project_segments

WIDTH = 800
"""Pixels of the pictures here: twice the network's."""
NAME_HEIGHT = 24
"""Rows at the top that hold the camera's name."""


def drawn(
    moment: FrameResult, camera: str = "CAM_FRONT", annotations: tuple[Annotation, ...] = ()
) -> NDArray[np.bool_]:
    """The pixels [450, 800] that differ from the camera's grey, below its name."""
    picture = draw_camera(frame(), camera, moment, CONFIG.image, WIDTH, annotations)
    assert picture.shape == (450, WIDTH, 3)
    changed: NDArray[np.bool_] = np.abs(picture.astype(int) - GREY).max(-1) > 20
    changed[:NAME_HEIGHT] = False
    return changed


def network_pixels(of: Frame, camera: str, points: Float64Array) -> Float64Array:
    """(u, v) of points [n, 3] m in the picture, by the matrix that is fed to the network."""
    matrix = frame_inputs(of, None, CONFIG)["lidar2img"][CONFIG.image.cameras.index(camera)]
    image = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return np.asarray(image[:, :2] / image[:, 2:3] * WIDTH / CONFIG.image.resized[1], np.float64)


@pytest.mark.parametrize(
    ("camera", "place"), [("CAM_FRONT", (2.0, 15.0)), ("CAM_BACK", (-3.0, -20.0)), ("CAM_FRONT_RIGHT", (12.0, 9.0))]
)
def test_all_corners_of_a_box_are_where_the_network_sees_them(camera: str, place: tuple[float, float]) -> None:
    car = box(place)
    changed = drawn(result(boxes=(car,)), camera)
    corners = network_pixels(frame(), camera, box_corners(car.center, car.size, car.heading))
    for u, v in np.round(corners).astype(int):
        assert changed[v - 1 : v + 2, u - 1 : u + 2].any(), f"nothing is drawn at ({u}, {v})"
    rows, columns = np.nonzero(changed)
    assert rows.max() == pytest.approx(corners[:, 1].max(), abs=4), "nothing is drawn below the box"
    label = 40
    assert columns.min() > corners[:, 0].min() - label
    assert columns.max() < corners[:, 0].max() + label


def test_recorded_matrices_are_drawn_by_as_they_are_fed() -> None:
    """Of a frame whose matrices another program has computed."""
    shifted = frame_inputs(frame(), None, CONFIG)["lidar2img"].copy()
    shifted[:, 0] += 10 * shifted[:, 2]
    recorded = replace(frame(), recorded={"lidar2img": shifted})
    difference = lidar_to_picture(recorded, "CAM_FRONT", CONFIG.image, WIDTH) - lidar_to_picture(
        frame(), "CAM_FRONT", CONFIG.image, WIDTH
    )
    point = difference @ (0.0, 15.0, 0.0, 1.0)
    depth = lidar_to_picture(frame(), "CAM_FRONT", CONFIG.image, WIDTH)[2] @ (0.0, 15.0, 0.0, 1.0)
    assert point[0] / depth == pytest.approx(20, abs=1e-3)


def test_a_box_behind_the_camera_is_not_drawn() -> None:
    assert not drawn(result(boxes=(box((0, -15), velocity=(0, 3)),))).any()


def test_a_box_beside_the_view_is_not_drawn() -> None:
    assert not drawn(result(boxes=(box((60, 5)),))).any()


def test_a_box_beside_the_camera_is_cut_at_its_plane() -> None:
    """Its front is ahead of the camera, its rear behind; lines to behind would cross the whole picture."""
    changed = drawn(result(boxes=(box((3, 2), size=(2.0, 9.0, 1.5)),)))
    assert changed[:, WIDTH // 2 :].any()
    assert not changed[:, : WIDTH // 2].any()


def test_segments_end_at_the_camera_plane() -> None:
    matrix = lidar_to_picture(frame(), "CAM_FRONT", CONFIG.image, WIDTH)
    starts, ends = np.array([[0.0, 10, 0], [0, -10, 0]]), np.array([[0.0, -10, 0], [0, -20, 0]])
    segments = project_segments(matrix, starts, ends)
    assert segments.shape == (1, 2, 2)
    assert np.isfinite(segments).all()


def test_the_plan_lies_on_the_ground() -> None:
    changed = drawn(result(plan=plan_ahead()))
    points = np.array([(0.0, y) for y in (8.0, 12.0, 16.0, 20.0)])
    ground = np.column_stack([points, ground_height(frame(), points)])
    np.testing.assert_allclose(ground[:, 2], -1.84)
    for u, v in np.round(network_pixels(frame(), "CAM_FRONT", ground)).astype(int):
        assert changed[v - 2 : v + 3, u - 2 : u + 3].all()
    assert not drawn(result(plan=plan_ahead()), "CAM_BACK").any()


def test_a_plan_that_stays_is_not_drawn() -> None:
    still = plan_ahead()
    still.points[:] = 0
    assert not drawn(result(plan=still)).any()


def test_velocity_points_to_where_the_box_will_be() -> None:
    """To the right: then more is drawn on the right."""
    still, moving = (drawn(result(boxes=(box((0, 15), velocity=v),))) for v in ((0, 0), (6, 0)))
    columns = np.nonzero(moving & ~still)[1]
    assert columns.mean() > WIDTH / 2 + 40


def test_ground_truth_is_dashed_white() -> None:
    truth = Annotation("a", "car", (0.0, 15.0, -1.0), (2.0, 4.0, 1.5), math.pi / 2, (0.0, 0.0))
    picture = draw_camera(frame(), "CAM_FRONT", result(), CONFIG.image, WIDTH, (truth,))
    bright = np.all(picture[NAME_HEIGHT:] > 200, axis=-1)
    assert 50 < np.sum(bright) < 2000


def test_a_mirrored_picture_shows_the_box_mirrored_and_the_text_not() -> None:
    car = box((2, 15))
    plain, mirrored = (
        draw_camera(frame(), "CAM_FRONT", result(boxes=(car,)), CONFIG.image, WIDTH, mirrored=turned)[NAME_HEIGHT:]
        for turned in (False, True)
    )
    changed = [np.nonzero((np.abs(picture.astype(int) - GREY).max(-1) > 20).any(0))[0] for picture in (plain, mirrored)]
    assert changed[1].min() == pytest.approx(WIDTH - changed[0].max(), abs=3)
    assert changed[1].max() == pytest.approx(WIDTH - changed[0].min(), abs=3)
    assert (plain[:, ::-1] != mirrored).any(), "the label is legible in both"


def test_only_the_nearest_have_labels() -> None:
    """Labels lie above these low boxes, so nothing more is there for twenty than for the twelve nearest."""
    row = nearest_first(box((-9 + 0.9 * i, 20), size=(0.2, 0.2, 1.5)) for i in range(20))
    few, many = (
        draw_camera(frame(), "CAM_FRONT", result(boxes=tuple(boxes)), CONFIG.image, 1600)[:445]
        for boxes in (row[:12], row)
    )
    assert (few != GREY).any()
    np.testing.assert_array_equal(few, many)


@pytest.mark.parametrize(("camera", "back"), [("CAM_FRONT_LEFT", False), ("CAM_BACK_RIGHT", True), ("CAM_BACK", True)])
def test_which_cameras_look_back(camera: str, back: bool) -> None:
    assert looks_back(frame(), camera) is back


def test_every_class_has_its_own_colour() -> None:
    pictures = {
        draw_camera(frame(), "CAM_FRONT", result(boxes=(box((0, 15), label=label),)), CONFIG.image, 400).tobytes()
        for label in (*CLASS_NAMES, "hay_bale")
    }
    assert len(pictures) == len(CLASS_NAMES) + 1
