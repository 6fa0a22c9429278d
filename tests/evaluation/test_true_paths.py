"""Driven paths and the paths of objects, against the reference and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from plugins.motion.ground_truth import AgentPaths, agent_paths, ego_path
from plugins.planning.ground_truth import driven_path
from tests.evaluation.conftest import Arrays, Located
from tests.evaluation.scenes import Thing, frame_at, scene_with
from toolkit.data.frames import Command
from toolkit.data.ground_truth import AnnotatedScene, Gap

NOISE = 1e-11
"""Metres: the order of sums in FP64."""
NOISE_OF_PLANS, NOISE_OF_HEADINGS = 2e-4, 1e-4
"""The reference does this in FP32 on global coordinates: it is 1.2e-4 m and 7e-5 radians off FP64."""


@pytest.mark.parametrize(("absolute", "suffix"), [(True, ""), (False, "_nooffset")])
def test_paths_of_the_reference(
    golden_frames: list[Located], golden_trajectories: Arrays, absolute: bool, suffix: str
) -> None:
    for located in golden_frames:
        paths = agent_paths(located.scene, located.index, absolute=absolute)
        assert isinstance(paths, AgentPaths)
        golden = {name: golden_trajectories[f"{located.prefix}.{name}{suffix}"] for name in
                  ("fut", "fut_mask", "past", "past_mask")}  # fmt: skip
        np.testing.assert_allclose(paths.future, golden["fut"], rtol=0, atol=NOISE)
        np.testing.assert_allclose(paths.past, golden["past"], rtol=0, atol=NOISE)
        np.testing.assert_array_equal(paths.future_mask, golden["fut_mask"])
        np.testing.assert_array_equal(paths.past_mask, golden["past_mask"])


def test_ego_paths_of_the_reference(golden_frames: list[Located], golden_trajectories: Arrays) -> None:
    for located in golden_frames:
        path = ego_path(located.scene, located.index)
        golden, mask = (golden_trajectories[f"{located.prefix}.sdc_fut{name}"][0] for name in ("", "_mask"))
        np.testing.assert_allclose(path.future, golden, rtol=0, atol=NOISE)
        np.testing.assert_array_equal(path.mask, mask)
        velocity = golden_trajectories[f"{located.prefix}.sdc_vel"]
        np.testing.assert_allclose(path.velocity, velocity, rtol=0, atol=NOISE)


def test_the_ego_s_velocity_at_the_end_of_a_scene_is_that_before() -> None:
    """Otherwise it is that until the next key frame: here 6 m/s ahead, then 8 m/s to the left."""
    scene = scene_with([frame_at(0, []), frame_at(0.5, [], x=3), frame_at(1, [], x=3, y=4, yaw=np.pi / 2)])
    velocities = [ego_path(scene, index).velocity for index in range(3)]
    np.testing.assert_allclose(velocities, [[0, 6], [-8, 0], [-8, 0]], atol=1e-12)
    assert np.isnan(ego_path(scene_with([frame_at(0, [])]), 0).velocity).all()


def test_driven_paths_of_the_reference(golden_frames: list[Located], golden_trajectories: Arrays) -> None:
    for located in golden_frames:
        path = driven_path(located.scene, located.index)
        plan, mask = (golden_trajectories[f"{located.prefix}.sdc_planning{name}"][0] for name in ("", "_mask"))
        known = mask[:, 0] > 0
        np.testing.assert_allclose(path.points, plan[:, :2], rtol=0, atol=NOISE_OF_PLANS)
        np.testing.assert_allclose(-path.heading[known] - np.pi / 2, plan[known, 2], rtol=0, atol=NOISE_OF_HEADINGS)
        np.testing.assert_array_equal(path.mask, mask)
        assert path.command == golden_trajectories[f"{located.prefix}.command"]
        assert (path.gap is None) == bool(known.all())


def drive(frames: int, step: float = 0.5) -> AnnotatedScene:
    """Ahead along the world's x by 2 m a frame; a car 10 m to the left keeps beside."""
    return scene_with([frame_at(step * i, [Thing(3, 2.0 * i, 10.0)], x=2.0 * i, y=0.0) for i in range(frames)])


def test_a_straight_drive() -> None:
    """Two metres a step, ahead, until the scene ends."""
    path = driven_path(drive(4), 1)
    np.testing.assert_allclose(path.points, [[0, 2], [0, 4], *[[0, 0]] * 4], atol=1e-12)
    np.testing.assert_allclose(path.heading, [np.pi / 2, np.pi / 2, 0, 0, 0, 0])
    assert path.mask[:, 0].tolist() == [1, 1, 0, 0, 0, 0]
    assert path.gap == Gap("frame0.5", "part of the driven path")
    assert path.command is Command.STRAIGHT


def test_headings_are_not_wrapped() -> None:
    """Three quarters of a turn to the left in three steps are 270 degrees more than ahead."""
    scene = scene_with([frame_at(0.5 * i, [], yaw=i * np.pi / 2 - np.pi / 2) for i in range(3)])
    np.testing.assert_allclose(driven_path(scene, 0).heading[:2], [np.pi, 3 * np.pi / 2])


def test_the_end_of_a_scene_is_straight_and_a_gap() -> None:
    path = driven_path(drive(2), 1)
    assert path.command is Command.STRAIGHT
    assert not path.mask.any()
    assert path.gap is not None


def test_objects_move_along_the_axes_of_the_lidar() -> None:
    """The car is 10 m to the left and goes ahead; the LiDAR is a metre before the ego."""
    paths = agent_paths(drive(4), 1)
    assert isinstance(paths, AgentPaths)
    np.testing.assert_allclose(paths.future[0, :2], [[-10, 1], [-10, 3]], atol=1e-12)
    np.testing.assert_allclose(paths.past[0], [[0, -2], *[[0, 0]] * 3, [-10, 1], [-10, 3], [0, 0], [0, 0]], atol=1e-12)
    assert paths.past_mask[0, :, 0].tolist() == [1, 0, 0, 0, 1, 1, 0, 0]


def test_without_a_past_there_is_no_future_in_it() -> None:
    paths = agent_paths(drive(4), 0)
    assert isinstance(paths, AgentPaths)
    assert not paths.past_mask.any()
    assert not paths.past.any()
    assert paths.future_mask.any()


def test_a_path_closes_up_where_an_object_is_not_annotated() -> None:
    """Hidden at the second frame: the first position of its future is that of the third."""
    scene = scene_with([frame_at(0.5 * i, [Thing(3, 2.0 * i, 10.0)] if i != 1 else []) for i in range(4)])
    paths = agent_paths(scene, 0, absolute=False)
    assert isinstance(paths, AgentPaths)
    np.testing.assert_allclose(paths.future[0, :3], [[0, 4], [0, 6], [0, 0]], atol=1e-12)


@pytest.mark.parametrize(("step", "known"), [(0.5, 12), (0.512, 12), (0.5125, 11), (0.25, 12)])
def test_a_path_has_twelve_positions_within_the_margin_of_its_end(step: float, known: int) -> None:
    """Up to 6.15 s, not including it; where frames are closer the twelfth position comes earlier."""
    paths = agent_paths(drive(16, step), 0)
    assert isinstance(paths, AgentPaths)
    assert paths.future_mask[0, :, 0].sum() == known
    assert ego_path(drive(16, step), 0).mask[:, 0].sum() == 12


def test_the_last_frame_knows_no_future() -> None:
    paths = agent_paths(drive(3), 2)
    assert isinstance(paths, AgentPaths)
    assert paths.gap == Gap("frame1", "the future of all objects")


def test_objects_of_a_test_set_are_a_gap() -> None:
    assert agent_paths(scene_with([frame_at(0, None)]), 0) == Gap("frame0", "annotations")
