"""Colours stay apart for every kind of colour vision."""

from __future__ import annotations

from itertools import combinations, product

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.visualize.palette import CLASSES, DRIVABLE, LANES, Color, occupancy_color

VISIONS = {
    "normal": np.eye(3),
    "protanopia": [(0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)],
    "deuteranopia": [(0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)],
    "tritanopia": [(1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)],
}
"""How linear RGB is seen, after Machado, Oliveira and Fernandes (2009)."""


def seen(color: Color, vision: str) -> NDArray[np.float32]:
    """CIE L*a*b*; a distance of 2.3 is just noticeable."""
    linear = (np.array(color) / 255) ** 2.2 @ np.array(VISIONS[vision]).T
    srgb = (np.clip(linear, 0, 1) ** (1 / 2.2)).astype(np.float32)
    return np.asarray(cv2.cvtColor(srgb[None, None], cv2.COLOR_RGB2Lab)[0, 0], np.float32)


@pytest.mark.parametrize("vision", VISIONS)
def test_classes_are_told_apart(vision: str) -> None:
    for one, other in combinations(CLASSES, 2):
        distance = float(np.linalg.norm(seen(CLASSES[one], vision) - seen(CLASSES[other], vision)))
        assert distance > 10, f"{one} and {other} look alike"


@pytest.mark.parametrize("vision", VISIONS)
def test_map_and_occupancy_are_not_taken_for_objects(vision: str) -> None:
    grounds = [DRIVABLE, *LANES, *(occupancy_color(step, 5) for step in range(5))]
    for ground, label in product(grounds, CLASSES):
        distance = float(np.linalg.norm(seen(ground, vision) - seen(CLASSES[label], vision)))
        assert distance > 10, f"{ground} and {label} look alike"


def test_map_and_occupancy_are_paler_than_objects() -> None:
    """By chroma; barriers are grey."""
    chroma = {label: float(np.hypot(*seen(color, "normal")[1:])) for label, color in CLASSES.items()}
    grounds = [DRIVABLE, *LANES, *(occupancy_color(step, 5) for step in range(5))]
    palest = min(value for label, value in chroma.items() if label != "barrier")
    assert max(float(np.hypot(*seen(ground, "normal")[1:])) for ground in grounds) < palest


@pytest.mark.parametrize("vision", VISIONS)
def test_later_occupancy_is_darker(vision: str) -> None:
    lightness = [float(seen(occupancy_color(step, 5), vision)[0]) for step in range(5)]
    assert lightness == sorted(lightness, reverse=True)
