"""The pictures of a synthetic drive show things where the devkit's projection of their boxes says."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import view_points
from pyquaternion import Quaternion

from toolkit.synthetic.rendering.order import back_to_front
from toolkit.synthetic.rendering.painter import Painter
from toolkit.synthetic.sensors.rig import CAMERAS, Camera, scaled_cameras
from toolkit.synthetic.traffic.actors import BUS, CAR, TRUCK, Actor, Kind, standing
from toolkit.synthetic.versions import LOCATIONS
from toolkit.synthetic.world.geometry import Array, oriented_corners
from toolkit.synthetic.world.town import Town, build_town

pytestmark = pytest.mark.slow

WHITE = (255, 255, 255)
SHADOW_MARGIN = 3


@pytest.fixture(scope="module")
def town() -> Town:
    return build_town(LOCATIONS[0], seed=0)


@pytest.fixture(scope="module")
def ego(town: Town) -> Array:
    """In the middle of a junction, where there is room all around."""
    junction = town.roads.junctions[(1, 1)]
    return np.array([*junction.center, 0.3])


def projected_outline(actor: Actor, camera: Camera, ego: Array, town: Town) -> NDArray[np.int32]:
    """The convex outline of the box in the picture, through the global frame as the devkit does it."""
    x, y, yaw = town.pose_to_global(actor.motion.at(0.0).pose)
    box = Box([x, y, actor.size[2] / 2], list(actor.size), Quaternion(axis=[0, 0, 1], radians=yaw))
    ego_x, ego_y, ego_yaw = town.pose_to_global(ego)
    box.translate(-np.array([ego_x, ego_y, 0.0]))
    box.rotate(Quaternion(axis=[0, 0, 1], radians=ego_yaw).inverse)
    box.translate(-camera.pose.translation)
    box.rotate(Quaternion(camera.pose.quaternion).inverse)
    corners = view_points(box.corners(), camera.intrinsics, normalize=True)[:2].T
    return np.asarray(cv2.convexHull(corners.round().astype(np.int32)), np.int32)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.channel)
@pytest.mark.parametrize("kind", [CAR, TRUCK, BUS], ids=lambda kind: kind.category)
def test_a_box_lies_on_what_is_drawn(kind: Kind, camera: Camera, town: Town, ego: Array) -> None:
    forward = ego[2] + math.atan2(camera.pose.rotation[1, 2], camera.pose.rotation[0, 2])
    x, y = ego[:2] + 13 * np.array([math.cos(forward), math.sin(forward)])
    vehicle = Actor("vehicle", kind, (2.0, 5.0, 1.9), (255, 0, 0), standing(float(x), float(y), forward + 0.7))
    far_away = Actor("far away", CAR, (2.0, 5.0, 1.6), WHITE, standing(0.0, 0.0, 0.0))
    with_it = Painter(town, [vehicle, far_away]).picture(camera, ego, 0.0)
    without = Painter(town, [far_away]).picture(camera, ego, 0.0)
    changed = (with_it.image.astype(int) - without.image != 0).any(axis=-1)
    inside = np.zeros(changed.shape, np.uint8)
    cv2.fillPoly(inside, [projected_outline(vehicle, camera, ego, town)], (1,))
    assert changed[inside > 0].mean() > 0.8  # a body fills most of its box's outline
    shadow = np.flatnonzero(inside.any(axis=1))[0] + int(inside.any(axis=1).sum() * 0.45)
    beyond = changed & (cv2.dilate(inside, np.ones((2 * SHADOW_MARGIN + 1,) * 2)) == 0)
    assert not beyond[:shadow].any()  # nothing sticks out, but for the shadow on the ground
    whole, visible = with_it.areas[0]
    assert whole == pytest.approx(inside.sum() / 16, rel=0.1)
    assert visible == pytest.approx(whole, rel=0.1)


def test_a_hidden_thing_counts_as_hidden(town: Town, ego: Array) -> None:
    """A car behind a bus."""
    front = CAMERAS[0]
    (x1, y1), (x2, y2) = (ego[:2] + d * np.array([math.cos(ego[2]), math.sin(ego[2])]) for d in (12, 20))
    bus = Actor("bus", BUS, (11.0, 2.8, 3.3), WHITE, standing(x1, y1, ego[2]))
    car = Actor("car", CAR, (1.9, 4.5, 1.5), WHITE, standing(x2, y2, ego[2]))
    for actors in ([bus, car], [car, bus]):
        areas = Painter(town, actors).picture(front, ego, 0.0).areas
        visible = {actor.name: float(area[1] / area[0]) for actor, area in zip(actors, areas, strict=True)}
        assert visible["bus"] > 0.95
        assert visible["car"] == 0.0


def test_smaller_pictures_show_the_same(town: Town, ego: Array) -> None:
    actors = [Actor("car", CAR, (1.9, 4.5, 1.5), WHITE, standing(0.0, 0.0, 0.0))]
    cameras = CAMERAS[0], scaled_cameras(0.25)[0]
    large, small = (Painter(town, actors).picture(camera, ego, 0.0).image for camera in cameras)
    shrunk = cv2.resize(large, (400, 225), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - small).mean() < 6


def test_paints_from_back_to_front() -> None:
    """A long wall whose centre is nearer than the box in front of one of its ends."""
    poses = np.array([(10.0, 4.0, 0.0), (28.0, 1.5, 0.0), (20.0, 12.0, 0.3)])
    sizes = np.array([(1.0, 40.0), (1.8, 4.5), (2.0, 2.0)])
    order = back_to_front(oriented_corners(poses, sizes), np.zeros(2))
    assert order.index(0) < order.index(1)
    assert order.index(2) < order.index(0)
    assert back_to_front(np.zeros((0, 4, 2)), np.zeros(2)) == []
