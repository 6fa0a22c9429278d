"""The whole picture: cameras, views from above, legend and headline at 1920x1080."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.visualize.drives import CONFIG, GREY, box, frame, full_result, result
from toolkit.data.frames import CanReading
from toolkit.errors import InputError
from toolkit.visualize.canvas import blank
from toolkit.visualize.ego import speeds
from toolkit.visualize.frame_picture import CAMERA_ORDER, draw_frame, draw_result, write_picture
from toolkit.visualize.lettering import Label, place_labels, shortened, text_width
from toolkit.visualize.object_table import rows_of


def test_a_full_frame() -> None:
    picture = draw_frame(full_result(), frame(), CONFIG)
    assert picture.shape == (1080, 1920, 3)
    assert picture.dtype == np.uint8
    assert (picture == GREY).all(-1).mean() > 0.25, "six cameras in two rows of three"


def test_cameras_are_side_by_side_as_a_driver_sees_them() -> None:
    """Left to right, ahead above, and behind as in mirrors: the left half of each picture is white, the right black."""
    half = np.zeros((900, 1600, 3), np.uint8)
    half[:, :800] = 255
    seen = replace(frame(), cameras={name: replace(view, image=half) for name, view in frame().cameras.items()})
    order = [f"CAM_{name}" for name in ("FRONT_LEFT", "FRONT", "FRONT_RIGHT", "BACK_LEFT", "BACK", "BACK_RIGHT")]
    assert list(CAMERA_ORDER) == order
    picture = draw_frame(result(), seen, CONFIG)
    rows = {v: picture[v, [12 + 418 * i + u for i in range(3) for u in (100, 300)], 0] for v in (160, 400)}
    np.testing.assert_array_equal(rows[160], [255, 0] * 3)
    np.testing.assert_array_equal(rows[400], [0, 255] * 3)


def test_the_headline_says_how_fast() -> None:
    """24 m in 3 s; what the bus does not know is not told."""
    driving = replace(frame(), can=CanReading(velocity=np.array([3.0, 4.0, 0.0])))
    assert speeds(full_result(), driving) == ["ego 5.0 m/s", "plan 8.0 m/s, 24.0 m in 3 s"]
    assert speeds(full_result(), frame()) == ["plan 8.0 m/s, 24.0 m in 3 s"]
    assert speeds(result(), None) == []


def test_the_nearest_objects_are_listed() -> None:
    boxes = [replace(box((0, y), velocity=(3, 4)), track_id=y) for y in (30, 10, 20)]
    assert [row[0] for row in rows_of(boxes)] == ["10", "20", "30"]
    assert rows_of(boxes)[0] == ("10", "car", "0.80", "10.0 m", "5.0 m/s")


def test_a_frame_without_results() -> None:
    assert draw_frame(result(), frame(), CONFIG).shape == (1080, 1920, 3)
    assert draw_result(result()).shape == (960, 1280, 3)


def test_values_beyond_all_measure_do_no_harm() -> None:
    """As untrained weights give them."""
    huge = (box((1e6, 3), size=(1e5, 1e5, 1e5)), box((0, 12), size=(2, 0, 0), velocity=(1e7, 0)))
    assert draw_frame(result(boxes=huge), frame(), CONFIG).shape == (1080, 1920, 3)


def test_fewer_cameras_fill_the_same_picture() -> None:
    cameras = ("CAM_FRONT", "CAM_BACK", "CAM_ROOF")
    image = replace(CONFIG.image, cameras=cameras)
    views = frame().cameras
    seen = replace(frame(), cameras=dict(zip(cameras, views.values(), strict=False)))
    assert draw_frame(full_result(), seen, replace(CONFIG, image=image)).shape == (1080, 1920, 3)


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8 nothing \xff\xda\xff\xd9")
    cameras = dict(frame().cameras)
    cameras["CAM_BACK"] = replace(cameras["CAM_BACK"], image=bad)
    with pytest.raises(InputError, match=r"bad\.jpg"):
        draw_frame(full_result(), replace(frame(), cameras=cameras), CONFIG)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_files_show_the_same_picture(suffix: str, tmp_path: Path) -> None:
    picture = draw_result(full_result())
    write_picture(picture, tmp_path / f"a{suffix}")
    image = cv2.imread(str(tmp_path / f"a{suffix}"))
    assert image is not None
    difference = np.abs(image[..., ::-1].astype(int) - picture)
    assert difference.mean() < 2
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose a writable output"):
        write_picture(draw_result(result()), tmp_path / "file" / "a.png")


def test_labels_do_not_overlap() -> None:
    """Of two at one place the second moves; the third has no place left."""
    here, above = (100.0, 50.0), (100.0, 20.0)
    labels = [Label("7 · 0.80", (here, above), (255, 255, 255))] * 3
    two, three = blank(200, 100, (0, 0, 0)), blank(200, 100, (0, 0, 0))
    place_labels(two, labels[:2], 11)
    place_labels(three, labels, 11)
    assert (two[6:20] > 0).any()
    assert (two[36:50] > 0).any()
    np.testing.assert_array_equal(two, three)


def test_long_texts_are_shortened_to_fit() -> None:
    text = shortened("scene-" * 50, 15, 200)
    assert text.endswith("…")
    assert text_width(text, 15) <= 200
