"""Between two key frames the view from above moves with the vehicle, and objects move on."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.visualize.drives import CONFIG, box, frame, full_result, result
from toolkit.data.frames import Pose
from toolkit.visualize.between import STILL, gone_on, motion_between
from toolkit.visualize.birds_eye import EgoSquare, draw_birds_eye
from toolkit.visualize.frame_picture import draw_between, draw_frame
from toolkit.visualize.shown import Shown, draw_shown
from toolkit.visualize.video import smooth_steps

BEFORE, AFTER = frame("0001", 0.0), frame("0002", 0.5)
"""The vehicle drives 2.5 m straight on."""


def test_what_stands_comes_nearer() -> None:
    """Ten metres ahead, then 8.75 m half way."""
    np.testing.assert_allclose(motion_between(BEFORE, AFTER, 0.5).apply(np.array([[1.0, 10]])), [[1, 8.75]], atol=1e-9)


@pytest.mark.parametrize("turn", [0.4, -0.4, 3.5])
def test_at_the_end_it_is_the_next_frame(turn: float) -> None:
    """Also when it turns: a point of the world is where the next frame sees it; turns go the shorter way."""
    turned = Pose(np.array([math.cos(turn / 2), 0, 0, math.sin(turn / 2)]), np.array([2.5, 1.0, 0.0]))
    after = replace(AFTER, ego2global=turned)
    in_world = (
        BEFORE.ego2global.rotation @ (BEFORE.lidar2ego.rotation @ (3.0, 12.0, 0.0) + BEFORE.lidar2ego.translation)
        + BEFORE.ego2global.translation
    )
    in_ego = turned.rotation.T @ (in_world - turned.translation)
    expected = after.lidar2ego.rotation.T @ (in_ego - after.lidar2ego.translation)
    seen = motion_between(BEFORE, after, 1.0).apply(np.array([[3.0, 12.0]]))
    np.testing.assert_allclose(seen, expected[None, :2], atol=1e-9)
    half = motion_between(BEFORE, after, 0.5).rotation
    assert math.atan2(half[0, 1], half[0, 0]) == pytest.approx(math.remainder(turn, math.tau) / 2)


def test_objects_go_on_at_their_velocity() -> None:
    moved = gone_on(result(boxes=(box((2, 15), velocity=(1, 4)),)), 0.5)
    assert moved.boxes[0].center[:2] == (2.5, 17.0)
    assert moved.timestamp == pytest.approx(4.0)


def test_the_view_moves_with_the_vehicle() -> None:
    """A box that stands is drawn where it stands by now, and the vehicle stays in the middle."""
    view = EgoSquare(50.0, 800, 10)
    moved = replace(view, since=motion_between(BEFORE, AFTER, 1.0))
    standing = result(boxes=(box((20, 20)),))
    np.testing.assert_array_equal(
        draw_birds_eye(standing, moved), draw_birds_eye(result(boxes=(box((20, 17.5)),)), view)
    )


def test_cameras_stay_as_they_were() -> None:
    picture = draw_frame(full_result("0001", 0.0), BEFORE, CONFIG)
    later = draw_between(picture, full_result("0001", 0.0), motion_between(BEFORE, AFTER, 0.5), 0.25)
    np.testing.assert_array_equal(later[:500, :1250], picture[:500, :1250])
    assert (later[:680, 1270:] != picture[:680, 1270:]).any()
    assert (draw_between(picture, full_result("0001", 0.0), STILL, 0.0) == picture).all()


def test_a_film_has_steps_within_scenes_alone(tmp_path: Path) -> None:
    """Two frames of one scene and one of another: 2 + 1 + 2 pictures, of which the key frames are written."""
    other = replace(frame("0003", 0.0), scene="tuesday")
    moments = [Shown(full_result(f.name, f.timestamp), f) for f in (BEFORE, AFTER, other)]
    pictures = list(draw_shown(moments, CONFIG, tmp_path, steps=3))
    assert len(pictures) == 3 + 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001.jpg", "0002.jpg", "0003.jpg"]
    assert len(list(draw_shown([Shown(full_result())] * 2, CONFIG, tmp_path, steps=3))) == 2, "no frames, no poses"


def test_a_video_has_ten_pictures_a_second() -> None:
    assert [smooth_steps(rate) for rate in (2.0, 5.0, 12.0)] == [5, 2, 1]
