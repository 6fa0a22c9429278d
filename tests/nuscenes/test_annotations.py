"""Ground truth of a dataroot, in the LiDAR frame of each key frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.nuscenes.tables import DRIVES, IMAGE, SOURCES, edit_table
from toolkit.data.sources import open_annotations, open_frames


def test_objects_are_where_the_world_has_them(dataroot: Path) -> None:
    """Each scene has one car, which stands where the drive began."""
    frames = list(open_frames(f"nuscenes:{dataroot}", IMAGE, SOURCES))
    truth = open_annotations(f"nuscenes:{dataroot}", frames, SOURCES)
    assert truth.keys() == {frame.name for frame in frames}
    places = {drive.name: drive.position for drive in DRIVES}
    for frame in frames:
        (car,) = truth[frame.name]
        in_ego = frame.lidar2ego.rotation @ car.center + frame.lidar2ego.translation
        in_world = frame.ego2global.rotation @ in_ego + frame.ego2global.translation
        np.testing.assert_allclose(in_world, [*places[frame.scene], 1.0], atol=1e-6)
        assert (car.label, car.size) == ("car", (1.9, 4.6, 1.7))
        np.testing.assert_allclose(car.velocity, 0, atol=1e-6)
        heading = frame.ego2global.rotation @ frame.lidar2ego.rotation @ (np.cos(car.heading), np.sin(car.heading), 0)
        assert heading[0] == pytest.approx(1, abs=2e-3), "it heads along the world's x axis"


def test_objects_that_nothing_has_hit_are_left_out(copied: Path) -> None:
    edit_table(copied, "sample_annotation", lambda records: records[0].update(num_lidar_pts=0, num_radar_pts=0))
    frames = list(open_frames(f"nuscenes:{copied}", IMAGE, SOURCES))
    assert sorted(map(len, open_annotations(f"nuscenes:{copied}", frames, SOURCES).values())) == [0] + [1] * 7


def test_other_sources_have_none(tmp_path: Path) -> None:
    assert open_annotations(str(tmp_path), [], SOURCES) == {}
