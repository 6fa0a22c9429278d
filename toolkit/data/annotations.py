"""Ground truth of a frame, where a data set knows it: labelled boxes in the LiDAR frame."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Annotation:
    """A labelled object. `heading` is counter-clockwise from the x axis, radians in (-π, π]."""

    instance: str
    """The same in all frames of a scene."""
    label: str
    """Class by its name in nuScenes detection, such as "car"."""
    center: tuple[float, float, float]
    """Gravity centre (m)."""
    size: tuple[float, float, float]
    """Width, length, height (m)."""
    heading: float
    velocity: tuple[float, float]
    """Along x and y (m/s); zero where unknown."""
