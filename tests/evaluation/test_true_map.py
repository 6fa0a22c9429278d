"""The true map: masks against the reference; lines of a vector map, and a synthetic town, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nuscenes", reason="nuscenes-devkit, which brings shapely, is not installed")

import shapely

from plugins.map_segmentation.ground_truth import TrueMap, rasterize, road_map, true_map
from plugins.map_segmentation.vector_map import (
    CONTOUR,
    CROSSING,
    DIVIDER,
    DRIVABLE_LAYER,
    LAYERS,
    Polyline,
    RoadMap,
    polylines,
)
from tests.evaluation.conftest import Arrays
from tests.evaluation.scenes import frame_at, scene_with
from toolkit.data.ground_truth import AnnotatedScene, Gap, GroundTruth
from toolkit.data.nuscenes.map_layers import read_map_layers
from toolkit.errors import InputError
from toolkit.synthetic.schema.map_expansion import map_expansion
from toolkit.synthetic.versions import LOCATIONS
from toolkit.synthetic.world.elements import Segment
from toolkit.synthetic.world.town import Town, build_town

SAMPLES = 12


@pytest.mark.parametrize(("size", "thickness"), [(50, 1), (200, 2)])
@pytest.mark.parametrize("number", range(SAMPLES))
def test_masks_of_the_reference(golden_map_rasters: Arrays, number: int, size: int, thickness: int) -> None:
    points, counts, kinds = (golden_map_rasters[f"s{number}.{name}"] for name in ("pts", "num", "type"))
    lines = [Polyline(*line) for line in zip(np.split(points, np.cumsum(counts)[:-1]), kinds.tolist(), strict=True)]
    drawn = rasterize(lines, size, thickness)
    for name in ("labels", "boxes", "masks"):
        np.testing.assert_array_equal(getattr(drawn, name), golden_map_rasters[f"s{number}.c{size}.{name}"])


def line(*points: tuple[float, float], kind: int = DIVIDER) -> Polyline:
    return Polyline(np.array(points, np.float64), kind)


def test_a_line_that_leaves_the_square_and_returns_is_two() -> None:
    drawn = rasterize([line((0, 0), (0, 60), (10, 60), (10, 0))], 50, 1)
    assert drawn.labels.tolist() == [DIVIDER, DIVIDER]
    assert drawn.boxes[:, [0, 2]].tolist() == [[0, 24], [0, 24]], "y of the ego is to the left: columns 0 to 24"
    assert drawn.boxes[:, 1].tolist() == [25, 29], "x of the ego is ahead: 0 and 10 m are rows 25 and 29"


def test_a_later_kind_erases_earlier_ones_nearby() -> None:
    """Three cells beside the contour, up to where OpenCV draws it, nothing of the divider remains; four, all of it."""
    contour = line((-40, 0.5), (40, 0.5), kind=CONTOUR)
    near, far = line((-40, 7), (40, 7)), line((-40, 9), (40, 9))
    assert rasterize([near, contour], 50, 1).labels.tolist() == [CONTOUR]
    assert rasterize([far, contour], 50, 1).labels.tolist() == [DIVIDER, CONTOUR]


def test_lines_of_a_point_and_no_lines_at_all() -> None:
    nothing = rasterize([line((0, 0))], 50, 1)
    assert (nothing.labels.shape, nothing.boxes.shape, nothing.masks.shape) == ((0,), (0, 4), (0, 50, 50))


def test_from_the_255th_line_on_all_share_a_number() -> None:
    """They are numbered in bytes."""
    lines = [line((x, y), (x + 0.1, y)) for x in range(-50, 50, 3) for y in range(-50, 50, 6)]
    assert len(lines) > 400
    assert len(rasterize(lines, 50, 1).labels) == 255


def layers_with(**layers: list[shapely.Geometry]) -> dict[str, np.ndarray]:
    return {name: np.array(layers.get(name, []), np.object_) for name in LAYERS}


def lines_around(**layers: list[shapely.Geometry]) -> list[Polyline]:
    """The ego stands at (100, 50) and looks along the world's y axis."""
    return polylines(RoadMap.of(layers_with(**layers)), np.array([100.0, 50.0]), np.pi / 2)


def test_dividers_are_sampled_every_metre_without_the_rest() -> None:
    """10.5 m along the world's x, 20 m ahead: from 5 m to the right on to the left."""
    ahead = shapely.LineString([(105, 70), (94.5, 70)])
    [divider] = lines_around(lane_divider=[ahead])
    assert divider.kind == DIVIDER
    np.testing.assert_allclose(divider.points, [(20, -5 + i) for i in range(11)], atol=1e-9)


def test_lane_dividers_come_after_road_dividers_and_are_of_their_kind() -> None:
    one, other = shapely.LineString([(100, 50), (100, 55)]), shapely.LineString([(100, 60), (100, 63)])
    lines = lines_around(lane_divider=[one], road_divider=[other])
    assert [(len(line.points), line.kind) for line in lines] == [(3, DIVIDER), (5, DIVIDER)]


def test_of_a_crossing_the_two_long_edges_remain() -> None:
    crossing = shapely.Polygon([(95, 60), (105, 60), (105, 63), (95, 63)])
    lines = lines_around(ped_crossing=[crossing])
    assert [line.kind for line in lines] == [CROSSING, CROSSING]
    assert sorted(float(line.points[0, 0].round(6)) for line in lines) == [10, 13]
    assert [len(line.points) for line in lines] == [10, 10]


def test_the_boundary_is_that_of_all_roads_and_lanes_together() -> None:
    """Two road segments and a lane that meet are one area, whose outline is followed clockwise."""
    roads = [shapely.box(95, 40, 105, 60), shapely.box(95, 60, 105, 70)]
    [contour] = lines_around(road_segment=roads, lane=[shapely.box(105, 40, 110, 60)])
    assert contour.kind == CONTOUR
    assert len(contour.points) == 90
    assert shapely.Polygon(contour.points).area == pytest.approx(10 * 30 + 5 * 20, abs=2)
    assert not shapely.LinearRing(contour.points).is_ccw


def test_the_edge_of_the_square_is_no_boundary() -> None:
    """A road that goes on beyond it has two sides, each cut 0.2 m before."""
    lines = lines_around(road_segment=[shapely.box(95, -200, 105, 200)])
    assert [len(line.points) for line in lines] == [102, 102]
    assert max(np.abs(line.points[:, 0]).max() for line in lines) == pytest.approx(51.0)


def test_an_island_in_the_road_has_a_boundary_too() -> None:
    ring = shapely.Polygon(shapely.box(80, 40, 120, 70).exterior, [shapely.box(95, 50, 105, 60).exterior])
    outer, inner = lines_around(road_segment=[ring])
    assert (len(outer.points), len(inner.points)) == (140, 40)
    assert shapely.LinearRing(inner.points).is_ccw


def test_what_only_touches_the_square_and_roads_that_cross_themselves_are_left_out() -> None:
    bow_tie = shapely.Polygon([(95, 40), (105, 60), (105, 40), (95, 60)])
    corner = shapely.LineString([(151.2, 0), (160, 50)])
    assert lines_around(road_segment=[bow_tie], road_divider=[corner]) == []


@pytest.fixture(scope="module")
def town() -> Town:
    return build_town(LOCATIONS[0], 0)


@pytest.fixture(scope="module")
def dataroot(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds nothing but the town's map."""
    folder = tmp_path_factory.mktemp("town")
    path = folder / f"maps/expansion/{town.location.name}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(map_expansion(town)))
    return folder


def truth_of(dataroot: Path, scene: AnnotatedScene) -> GroundTruth:
    return GroundTruth((scene,), lambda location, names: read_map_layers(dataroot, location, names))


def on_a_street(town: Town) -> AnnotatedScene:
    """In the middle of a street with two lanes each way, a metre to the right of its divider, along its axis."""
    streets = [one for one in town.roads.segments if one.street.lanes == 2 and one.street.axis == 0]
    street: Segment = max(streets, key=lambda one: one.end - one.begin)
    x, y, yaw = town.pose_to_global(np.array([(street.begin + street.end) / 2, street.street.center - 1, 0.0]))
    return scene_with([frame_at(0.0, [], x=x, y=y, yaw=yaw)], town.location.name)


def columns(drawn: TrueMap, label: int, row: int) -> list[int]:
    found: list[int] = np.flatnonzero(drawn.masks[drawn.labels == label][:, row].any(0)).tolist()
    return found


def test_a_street_of_the_synthetic_town(town: Town, dataroot: Path) -> None:
    """Metres to the left of the ego: the divider 1; lane dividers 4.5 and -2.5; kerbs 8.3 and -6.3; parking bays, which
    are drivable, up to 10.7 and -8.7. A cell has 0.512 m, and column 99 begins at the ego, going left.

    So the divider is in column 199 - 101 = 98, and so on. Nothing is near enough to be erased.
    """
    scene = on_a_street(town)
    road = road_map(truth_of(dataroot, scene), scene.location)
    drawn = true_map(scene, 0, road, size=200)
    assert isinstance(drawn, TrueMap)
    assert columns(drawn, DIVIDER, 100) == [91, 98, 104]
    assert columns(drawn, CONTOUR, 100) == [83, 112]
    assert columns(drawn, CROSSING, 100) == []
    # The area is rounded to cells where lines are cut off: (51.2 - 10.7) / 0.512 = 79.1, (51.2 + 8.7) / 0.512 = 117.0.
    assert columns(drawn, 3, 100) == list(range(79, 118))


def test_lanes_vanish_beside_the_kerb_on_the_coarse_grid(town: Town, dataroot: Path) -> None:
    """Cells of 2.048 m: the kerbs are in columns 20 and 28, and erase what is in 17 to 23 and in 25 to 31: the lane
    dividers in 22 and 26, but not the divider in 24.
    """
    scene = on_a_street(town)
    drawn = true_map(scene, 0, road_map(truth_of(dataroot, scene), scene.location))
    assert isinstance(drawn, TrueMap)
    assert drawn.masks.shape[1:] == (50, 50)
    assert columns(drawn, CONTOUR, 25) == [20, 28]
    assert columns(drawn, DIVIDER, 25) == [24]
    assert columns(drawn, 3, 25) == list(range(20, 30))
    assert drawn.labels[-1] == 3


def test_crossings_of_the_synthetic_town(town: Town, dataroot: Path) -> None:
    """Every junction in sight has crossings, whose two edges are three metres apart."""
    scene = on_a_street(town)
    road = road_map(truth_of(dataroot, scene), scene.location)
    assert road is not None
    ego = scene.frames[0].ego2global
    crossings = [line for line in polylines(road, ego.translation[:2], ego.yaw) if line.kind == CROSSING]
    ahead = sorted(float(line.points[0, 0]) for line in crossings if np.ptp(line.points[:, 0]) < 0.1)
    assert ahead
    np.testing.assert_allclose(np.diff(ahead)[::2], 3.0, atol=1e-3)


def test_lines_are_about_the_ego_and_the_drivable_area_about_the_lidar() -> None:
    """The LiDAR is a metre ahead: what begins 10 m before the ego begins 9 m before it."""
    box = shapely.box(10, -5, 30, 5)
    road = RoadMap.of(layers_with(**{DRIVABLE_LAYER: [box], "lane_divider": [shapely.LineString([(10, -5), (10, 5)])]}))
    drawn = true_map(scene_with([frame_at(0, [])], "here"), 0, road, size=200)
    assert isinstance(drawn, TrueMap)
    divider, area = drawn.boxes
    assert divider[1] == int((51.2 + 10) / 0.512)
    assert area[1] == round((51.2 + 9) / 0.512)


def test_a_hole_in_a_drivable_area_erases_what_came_before() -> None:
    """As the reference draws: one area after the other, the outline, then its holes."""
    hole = shapely.Polygon(shapely.box(0, -10, 20, 10).exterior, [shapely.box(5, -5, 15, 5).exterior])
    inside = shapely.box(6, -4, 14, 4)
    counts = []
    for areas in ([hole, inside], [inside, hole]):
        drawn = true_map(
            scene_with([frame_at(0, [])], "here"), 0, RoadMap.of(layers_with(drivable_area=areas)), size=200
        )
        assert isinstance(drawn, TrueMap)
        counts.append(np.count_nonzero(drawn.masks[-1]))
    assert counts[0] > counts[1]


def test_a_scene_without_a_map(dataroot: Path) -> None:
    elsewhere, nowhere = (scene_with([frame_at(0, [])], name) for name in ("atlantis", None))
    assert road_map(truth_of(dataroot, elsewhere), "atlantis") is None
    assert true_map(elsewhere, 0, None) == Gap("frame0", "the map of atlantis")
    assert true_map(nowhere, 0, None) == Gap("frame0", "the name of its map")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"expansion/boston-seaport\.json: cannot be used: JSONDecodeError: .*; unpack the map expansion again"),
        ('{"version": "1.0"}', "outdated map version"),
        ('{"version": "1.3"}', "cannot be used: KeyError"),
        ("7", "cannot be used: TypeError"),
    ],
)
def test_damaged_maps(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "maps/expansion/boston-seaport.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_map_layers(tmp_path, "boston-seaport", LAYERS)


def test_coordinates_that_are_not_finite(dataroot: Path, town: Town, tmp_path: Path) -> None:
    path = tmp_path / f"maps/expansion/{town.location.name}.json"
    path.parent.mkdir(parents=True)
    content = map_expansion(town)
    for node in content["node"]:
        node["x"] = float("inf")
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="layer road_divider holds a coordinate that is not finite"):
        read_map_layers(tmp_path, town.location.name, LAYERS)
