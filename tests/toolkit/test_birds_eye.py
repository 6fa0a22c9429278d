"""The picture from above: things are drawn where they are, and parts that a model lacks are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.data.frames import Command
from toolkit.runtime.results import FrameResult, MapResult, MotionModes, OccupancyResult, PlanResult, TrackedBox
from toolkit.visualize.birds_eye import birds_eye_figure, draw_birds_eye


def result(**parts: Any) -> FrameResult:
    empty: dict[str, Any] = {"boxes": (), "ego_motion": None, "map": None, "occupancy": None, "plan": None}
    return FrameResult(
        frame="0007", scene="monday", timestamp=3.5, command=Command.LEFT, dropped_tracks=0, dropped_agents=0,
        **(empty | parts),
    )  # fmt: skip


def picture(drawn: FrameResult) -> NDArray[np.uint8]:
    """RGB [960, 1280, 3]."""
    canvas: Any = birds_eye_figure(drawn).canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def changed(drawn: FrameResult) -> tuple[float, float]:
    """Mean position (m) of what `drawn` shows in the left view, besides an empty frame's picture."""
    difference = (picture(drawn) != picture(result())).any(-1)[48:944, 16:912]
    rows, columns = np.nonzero(difference)
    return float(columns.mean() / 896 * 106 - 53), float(53 - rows.mean() / 896 * 106)


def occupied(row: int, column: int) -> NDArray[np.bool_]:
    grid = np.zeros((50, 50), np.bool_)
    grid[row, column] = True
    return grid


def map_with(drivable: NDArray[np.bool_]) -> MapResult:
    lanes = np.zeros((3, 50, 50), np.bool_)
    bev = (-51.2, 51.2)
    return MapResult(("divider", "crossing", "boundary"), lanes, lanes.astype(np.float32), drivable, (), bev, bev)


def test_map_cells_are_drawn_in_place() -> None:
    x, y = changed(result(map=map_with(occupied(row=45, column=10))))
    assert abs(x - (10.5 * 2.048 - 51.2)) < 0.5
    assert abs(y - (45.5 * 2.048 - 51.2)) < 0.5


def test_occupancy_cells_are_half_a_metre_wide() -> None:
    def occupancy(row: int) -> OccupancyResult:
        cells = np.stack([occupied(row, column=49)] * 5)
        return OccupancyResult(cells, cells.astype(np.float32), 0.5, (-12.5, 12.5), (-12.5, 12.5))

    low, high = (picture(result(occupancy=occupancy(row))).astype(int) for row in (0, 40))
    rows, columns = np.nonzero(np.abs(low - high)[48:944, 16:912].sum(-1) > 60)
    assert abs((columns.mean() / 896 * 106 - 53) - 12.25) < 0.3
    assert abs((rows.max() - rows.min()) / 896 * 106 - 20.5) < 0.4


def test_a_box_is_drawn_with_its_motion() -> None:
    steps = np.arange(1.0, 13.0, dtype=np.float32)
    ahead = np.stack([np.full(12, 30, np.float32), 30 + steps], axis=-1)
    motion = MotionModes(np.stack([ahead] * 6), np.full(6, 1 / 6, np.float32), 0.5)
    still = TrackedBox(7, "car", 0.8, (30, 30, 0), (2, 4, 1.5), np.pi / 2, (0, 0), None)
    moving = TrackedBox(7, "car", 0.8, (30, 30, 0), (2, 4, 1.5), np.pi / 2, (0, 5), motion)
    x, y = changed(result(boxes=(still,)))
    assert abs(x - 30) < 3
    assert abs(y - 30) < 1
    assert changed(result(boxes=(moving,)))[1] > y + 0.5


def test_the_plan_starts_at_the_ego() -> None:
    points = np.stack([np.zeros(6), np.linspace(4, 24, 6)], axis=-1).astype(np.float32)
    x, y = changed(result(plan=PlanResult(points, 0.5)))
    assert abs(x) < 0.3
    assert 10 < y < 15


def test_an_unknown_class_of_a_third_party_model_is_drawn() -> None:
    box = TrackedBox(1, "hay_bale", 0.5, (-30, -30, 0), (2, 2, 2), 0.0, (0, 0), None)
    assert changed(result(boxes=(box,)))[0] < -25


def test_the_file_is_a_png_of_the_stated_size(tmp_path: Path) -> None:
    path = tmp_path / "0007.png"
    draw_birds_eye(result(), path)
    image = cv2.imread(str(path))
    assert image is not None
    assert image.shape == (960, 1280, 3)
    assert list(tmp_path.iterdir()) == [path]
