"""Everything that is made of one data set fits together: on a synthetic drive, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")

from plugins.map_segmentation.ground_truth import DRIVABLE, TrueMap, road_map, true_map
from plugins.motion.ground_truth import AgentPaths, agent_paths
from plugins.occupancy.ground_truth import InstanceGrids, instance_grids
from plugins.planning.ground_truth import driven_path
from plugins.planning.metrics import plan_errors
from tests.evaluation.scenes import Thing, frame_at, scene_with
from toolkit.data.ground_truth import AnnotatedScene, GroundTruth
from toolkit.data.plugin import uniad_frame_sources
from toolkit.data.sources import open_ground_truth
from toolkit.data.standpoint import seen_from
from toolkit.synthetic.dataset import DriveSettings, synthesize


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> GroundTruth:
    """A training and a validation scene of six seconds."""
    folder = tmp_path_factory.mktemp("drive") / "dataroot"
    list(synthesize(folder, DriveSettings(scenes=2, keyframes=12, image_scale=0.05)))
    return open_ground_truth(f"nuscenes:{folder}", uniad_frame_sources())


@pytest.mark.slow
def test_the_vehicle_drives_where_one_can(drive: GroundTruth) -> None:
    """Every point of its path lies in the drivable area of the map that is drawn about its beginning."""
    for scene in drive.scenes:
        road = road_map(drive, scene.location)
        for index in range(len(scene.frames)):
            drawn = true_map(scene, index, road, size=200)
            assert isinstance(drawn, TrueMap)
            path = driven_path(scene, index)
            columns, rows = ((path.points[path.mask[:, 0] > 0] + 51.2) / 0.512).astype(int).T
            assert drawn.masks[drawn.labels == DRIVABLE][0, rows, columns].all()


@pytest.mark.slow
def test_the_next_position_of_a_path_is_where_the_object_is_annotated_next(drive: GroundTruth) -> None:
    """Seen from the same LiDAR; the ground is flat."""
    moved = 0
    for scene in drive.scenes:
        for index, (now, then) in enumerate(zip(scene.frames, scene.frames[1:], strict=False)):
            paths = agent_paths(scene, index)
            assert isinstance(paths, AgentPaths)
            assert now.objects is not None
            assert then.objects is not None
            places = dict(zip(then.objects.instance, seen_from(now, then, then.objects.center)[:, :2], strict=True))
            for row, name in enumerate(now.objects.instance):
                if name in places:
                    np.testing.assert_allclose(paths.future[row, 0], places[name], atol=1e-6)
                    moved += int(np.linalg.norm(paths.future[row, 0] - now.objects.center[row, :2]) > 1)
    assert moved > 10


def errors_of(scene: AnnotatedScene, index: int, shift: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Distance and collision of the ego's footprint at each step, for the driven path moved by `shift` (m)."""
    path, grids = driven_path(scene, index), instance_grids(scene, index)
    assert isinstance(grids, InstanceGrids)
    truth = path.points[None]
    errors = plan_errors(truth + np.array(shift), truth, path.mask[None], grids.segmentation[None, 1:7])
    return errors.l2[0], errors.box_collides[0]


@pytest.mark.slow
def test_the_driven_path_is_a_perfect_plan(drive: GroundTruth) -> None:
    for scene in drive.scenes:
        for index in range(len(scene.frames)):
            distance, collides = errors_of(scene, index, (0.0, 0.0))
            assert not distance.any()
            assert not collides.any()


def test_a_plan_beside_the_driven_path_meets_what_stands_there() -> None:
    """A car stands 5 m to the left, from 6 to 10 m before the LiDAR: in rows 37 to 45. The ego covers rows 22 to 29,
    and four rows more with each step of 2 m: 26 to 33, then 30 to 37, and in the end 46 to 53.
    """
    car = [Thing(0, x=1.0 + 8.0, y=5.0)]
    scene = scene_with([frame_at(0.5 * i, car, x=2.0 * max(i - 1, 0)) for i in range(9)])
    assert not errors_of(scene, 1, (5.0, 0.0))[1].any(), "to the right there is nothing"
    distance, collides = errors_of(scene, 1, (-5.0, 0.0))
    np.testing.assert_allclose(distance, 5.0)
    assert collides.tolist() == [False, True, True, True, True, False]
