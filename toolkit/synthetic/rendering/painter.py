"""Pictures of the town and its traffic, and how much of every actor each shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.synthetic.rendering.actors import draw_flat_actor, draw_mesh
from toolkit.synthetic.rendering.ground import draw_ground
from toolkit.synthetic.rendering.ground_texture import GroundTexture
from toolkit.synthetic.rendering.light import cast_shadow
from toolkit.synthetic.rendering.order import back_to_front
from toolkit.synthetic.rendering.shapes import solid_shape
from toolkit.synthetic.rendering.sky import Sky
from toolkit.synthetic.rendering.surroundings import draw_building, draw_pole, draw_tree
from toolkit.synthetic.rendering.view import SUBPIXEL, PlacedCamera, clip, drawing_points
from toolkit.synthetic.sensors.rig import Camera, chain, ego_pose
from toolkit.synthetic.traffic.actors import Actor
from toolkit.synthetic.world.geometry import Array, oriented_corners
from toolkit.synthetic.world.scenery import Building, Pole, Tree
from toolkit.synthetic.world.town import Town

_SIGHT = 150.0
"""Farther things are not drawn, metres."""
_SHADE = 0.6
_REDUCED = 4
"""Areas are counted in a picture this much smaller."""
_POLE_FOOT = 0.3


@dataclass(frozen=True, eq=False)
class PaintedPicture:
    """`image` [height, width, 3] uint8, blue, green, red. `areas` [actors, 2]: how much of an actor's outline is in the
    picture, and how much of that nothing hides, in pixels of a reduced picture.
    """

    image: NDArray[np.uint8]
    areas: Array


class Painter:
    """Paints one scene: what stands in the town, and the actors as they move."""

    def __init__(self, town: Town, actors: Sequence[Actor]) -> None:
        self._actors = actors
        self._mesh = cache(lambda index: solid_shape(actors[index]))
        self._ground = GroundTexture(town)
        self._sky = Sky(town.seed)
        scenery = town.scenery
        self._fixed: tuple[Building | Tree | Pole, ...] = (*scenery.buildings, *scenery.trees, *scenery.poles)
        poses = [b.pose for b in scenery.buildings]
        sizes = [b.size for b in scenery.buildings]
        thin: tuple[Tree | Pole, ...] = (*scenery.trees, *scenery.poles)
        for thing in thin:
            poses.append(np.array([thing.x, thing.y, 0.0]))
            sizes.append((_POLE_FOOT, _POLE_FOOT, 0.0))
        self._fixed_poses, self._fixed_sizes = np.array(poses), np.array(sizes)

    def picture(self, camera: Camera, ego: Array, time: float) -> PaintedPicture:
        """What `camera` sees at `time` seconds, with the ego vehicle at (x, y, yaw)."""
        pose = chain(ego_pose(*ego.tolist()), camera.pose)
        image = np.empty((*camera.size[::-1], 3), np.uint8)
        view = PlacedCamera(camera.intrinsics, pose.rotation, pose.translation, image)
        self._sky.draw(image, camera.channel, camera.intrinsics, view.yaw)
        draw_ground(self._ground, image, camera.intrinsics, view.axes, view.place)
        states = [actor.motion.at(time) for actor in self._actors]
        poses = np.concatenate([np.array([state.pose for state in states]), self._fixed_poses])
        sizes = np.concatenate([np.array([actor.size for actor in self._actors]), self._fixed_sizes])
        radii = np.hypot(sizes[:, 0], sizes[:, 1]) / 2 + np.where(sizes[:, 2] == 0, 3.0, 0.0)
        near = np.hypot(*(poses[:, :2] - view.place[:2]).T) < _SIGHT
        shown = np.flatnonzero(near & view.covers(poses[:, :2], radii))
        feet = oriented_corners(poses[shown], sizes[shown])
        self._cast_shadows(view, feet, shown)
        reduced = np.zeros([-(-side // _REDUCED) for side in image.shape[:2]], np.int16)
        areas = np.zeros((len(self._actors), 2))
        for k in back_to_front(feet, view.place[:2]):
            index = int(shown[k])
            if index < len(self._actors):
                self._draw_actor(view, index, states[index].pose, states[index].distance)
                areas[index, 0] = _mark(view, reduced, feet[k], sizes[index, 2], index + 1)
            else:
                self._draw_fixed(view, index - len(self._actors), feet[k])
                if sizes[index, 2]:
                    _mark(view, reduced, feet[k], sizes[index, 2], 0)
        areas[:, 1] = np.bincount(reduced.ravel(), minlength=len(areas) + 1)[1:]
        areas[:, 0] = np.maximum(areas[:, 0], areas[:, 1])
        return PaintedPicture(image, areas)

    def _draw_actor(self, view: PlacedCamera, index: int, pose: Array, distance: float) -> None:
        mesh = self._mesh(index)
        if mesh is None:
            draw_flat_actor(view, self._actors[index], pose, distance)
        else:
            draw_mesh(view, mesh, pose)

    def _draw_fixed(self, view: PlacedCamera, index: int, foot: Array) -> None:
        thing = self._fixed[index]
        if isinstance(thing, Building):
            draw_building(view, thing, foot)
        elif isinstance(thing, Tree):
            draw_tree(view, thing)
        else:
            draw_pole(view, thing)

    def _cast_shadows(self, view: PlacedCamera, feet: Array, shown: NDArray[np.intp]) -> None:
        """Darken the ground beneath the actors; the shadows of houses and trees are in the ground's texture."""
        horizon = int(view.intrinsics[1, 2]) + 1
        mask = np.zeros(((view.image.shape[0] - horizon) // 2, view.image.shape[1] // 2), np.uint8)
        for foot, index in zip(feet, shown.tolist(), strict=True):
            if index < len(self._actors):
                outline = cast_shadow(foot, 0.9 * self._actors[index].size[2])
                ground = clip(view.to_camera(np.concatenate([outline, np.zeros((len(outline), 1))], axis=1)))
                if len(ground) > 2:
                    pixels = (view.pixels(ground) - (0, horizon)) / 2
                    cv2.fillConvexPoly(mask, drawing_points(pixels), (255,), cv2.LINE_AA, SUBPIXEL)
        left, top, width, height = cv2.boundingRect(mask)
        if width:
            below = view.image[horizon + 2 * top :, 2 * left :][: 2 * height, : 2 * width]
            soft = cv2.GaussianBlur(mask[top : top + height, left : left + width], (3, 3), 0)
            shade = cv2.merge([cv2.resize(soft, (2 * width, 2 * height))] * 3)
            below[:] = cv2.subtract(below, cv2.multiply(below, shade, scale=(1 - _SHADE) / 255))


def _mark(view: PlacedCamera, reduced: NDArray[np.int16], foot: Array, height: float, value: int) -> float:
    """Fill the outline of a box in the reduced picture; returns the outline's area inside of it."""
    corners = np.zeros((8, 3))
    corners[:4, :2] = corners[4:, :2] = foot
    corners[4:, 2] = height
    outline = view.outline(corners)
    if outline is None:
        return 0.0
    outline = (outline + 0.5) / _REDUCED - 0.5
    cv2.fillConvexPoly(reduced, outline.round().astype(np.int32), (value,))
    height_px, width_px = reduced.shape
    frame = np.array([(0, 0), (width_px, 0), (width_px, height_px), (0, height_px)], np.float32) - 0.5
    area: float = cv2.intersectConvexConvex(outline.astype(np.float32), frame.astype(np.float32))[0]
    return area
