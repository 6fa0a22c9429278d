"""Colours of every picture, RGB: apart from each other on a dark ground, also for colour-blind eyes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

Color = tuple[int, int, int]

GROUND: Color = (18, 21, 26)
PANEL: Color = (27, 31, 38)
EDGE: Color = (62, 69, 80)
MUTED: Color = (150, 159, 171)
INK: Color = (236, 240, 244)

EGO: Color = (236, 240, 244)
PLAN: Color = (60, 245, 160)
TRUTH: Color = (255, 255, 255)
DRIVABLE: Color = (47, 54, 65)
LANES: tuple[Color, ...] = ((106, 96, 66), (56, 84, 110), (100, 68, 90), (74, 96, 72))
"""By lane class: divider, crossing and boundary in the official model. Darker and paler than any class of objects."""

CLASSES: Mapping[str, Color] = MappingProxyType({
    "car": (86, 180, 233),
    "truck": (230, 140, 0),
    "construction_vehicle": (214, 190, 130),
    "bus": (0, 178, 128),
    "trailer": (156, 146, 255),
    "barrier": (176, 180, 186),
    "motorcycle": (236, 110, 200),
    "bicycle": (240, 228, 66),
    "pedestrian": (255, 92, 60),
    "traffic_cone": (255, 176, 168),
})  # fmt: skip
"""Okabe and Ito's colours where they are bright enough, and three more."""
OTHER_CLASS: Color = (200, 205, 212)

_OCCUPIED: tuple[Color, ...] = ((230, 226, 234), (120, 108, 134), (88, 76, 104), (66, 54, 82))
"""Now to the last step: bright to dark, so that time is read without telling hues apart; hardly a hue, so that no
class of objects is taken for it."""


def class_color(label: str) -> Color:
    """The colour of a class; those of other data sets share one."""
    return CLASSES.get(label, OTHER_CLASS)


def lane_color(index: int) -> Color:
    return LANES[index % len(LANES)]


def occupancy_color(step: int, steps: int) -> Color:
    """Of `steps` in all, the first is now."""
    place = step / max(steps - 1, 1) * (len(_OCCUPIED) - 1)
    before = min(int(place), len(_OCCUPIED) - 2)
    return mixed(_OCCUPIED[before], _OCCUPIED[before + 1], place - before)


def mixed(one: Color, other: Color, share: float) -> Color:
    """`one` with a `share` of the `other` in it."""
    red, green, blue = (round((1 - share) * a + share * b) for a, b in zip(one, other, strict=True))
    return red, green, blue
