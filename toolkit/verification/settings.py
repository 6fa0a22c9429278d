"""Whether a dump was made with the settings of a bundle: by what it says of itself, and by what its inputs show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.bundle import Bundle
from toolkit.config.model import CanBusRotation
from toolkit.data.ego_motion import recorded_rotation
from toolkit.reference_interface.dump import Origin
from toolkit.text import in_words, shown

DIRECTIONS = {
    "FRONT": 0, "FRONT_LEFT": 55, "LEFT": 90, "BACK_LEFT": 110, "BACK": 180, "BACK_RIGHT": -110, "RIGHT": -90,
    "FRONT_RIGHT": -55,
}  # fmt: skip
"""Where a camera looks whose name ends so: degrees from the LiDAR frame's y axis, counter-clockwise."""
NEAR = 25
"""Degrees by which a mounted camera may deviate."""


@dataclass(frozen=True)
class SettingsCheck:
    """`differing` settings, a line each that names the remedy, and `notes` on what may be another or is none."""

    differing: tuple[str, ...]
    notes: tuple[str, ...]


def check_settings(origin: Origin, bundle: Bundle, first: Mapping[str, np.ndarray]) -> SettingsCheck:
    """Compare what a dump says, and what the frame inputs `first` of its first frame show, with a bundle."""
    differing, notes = [*_checkpoint(origin, bundle), *_thresholds(origin, bundle)], [*_unknown(origin, bundle)]
    notes += _precision(origin)
    config = bundle.config
    if origin.yaw_convention not in (None, config.yaw_convention):
        differing.append(
            f"yaw_convention is {origin.yaw_convention} in the dump, {config.yaw_convention} in the bundle: convert "
            f"again with --yaw-convention {origin.yaw_convention}"
        )
    found, said = _rotation(first), origin.can_bus_rotation
    rotation = said or found
    if rotation not in (None, config.can_bus_rotation):
        line = (
            f"can_bus holds the rotation in {rotation} form in the dump, can_bus_rotation is "
            f"{config.can_bus_rotation} in the bundle: convert again with --can-bus-rotation {rotation}"
        )
        # Made-up inputs hold a whole quaternion; four times w is what a training's data set alone gives.
        made_up = said is None and rotation is CanBusRotation.QUATERNION
        (notes if made_up else differing).append(line + ", unless the inputs are made up" * made_up)
    cameras = config.image.cameras
    if origin.cameras is not None and origin.cameras != cameras:
        differing.append(
            f"the cameras are {_names(origin.cameras)} in the dump, {_names(cameras)} in the bundle: convert again "
            f"with image.cameras = {list(origin.cameras)}"
        )
    elif origin.cameras is None and (seen := cameras_by_direction(first.get("lidar2img"), cameras)) != cameras:
        notes.append(
            f"by lidar2img the dump's cameras look as {_names(seen)} do, the bundle's image.cameras are "
            f"{_names(cameras)}: convert again with that order, unless the inputs are made up"
        )
    return SettingsCheck(tuple(differing), tuple(notes))


def cameras_by_direction(lidar2img: np.ndarray | None, cameras: Sequence[str]) -> tuple[str, ...]:
    """The cameras in the order in which matrices [n, 4, 4] look; as given, if that is unclear or fits."""
    given = tuple(cameras)
    expected = [next((a for end, a in DIRECTIONS.items() if name.endswith(f"CAM_{end}")), None) for name in cameras]
    if lidar2img is None or None in expected:
        return given
    # The third row of a projection is the camera's axis, in whatever unit.
    axes = lidar2img[:, 2, :2].astype(np.float64)
    angles = np.degrees(np.arctan2(-axes[:, 0], axes[:, 1]))
    apart = np.abs((angles[:, None] - np.array(expected, float) + 180) % 360 - 180)
    if (np.diag(apart) <= NEAR).all():
        return given
    nearest = apart.argmin(1)
    clear = len(set(nearest)) == len(given) and (apart.min(1) <= NEAR).all()
    return tuple(given[i] for i in nearest) if clear else given


def _checkpoint(origin: Origin, bundle: Bundle) -> Iterator[str]:
    said, own = origin.checkpoint_sha256, bundle.provenance.get("checkpoint_sha256")
    if said and own and said != own:
        yield (
            f"the dump was made with checkpoint {_file(origin.checkpoint, said)}, the bundle is converted from "
            f"{_file(bundle.provenance.get('checkpoint'), own)}: convert the former, or dump with the latter"
        )


def _unknown(origin: Origin, bundle: Bundle) -> Iterator[str]:
    said = origin.checkpoint_sha256
    if said and not bundle.provenance.get("checkpoint_sha256"):
        yield (
            f"the dump was made with checkpoint {_file(origin.checkpoint, said)}, of the bundle's nothing is known: "
            "they are not compared; convert again to have it noted"
        )


def _thresholds(origin: Origin, bundle: Bundle) -> Iterator[str]:
    tracking = bundle.config.tracking
    for official, said, name, own in (
        ("score_thresh", origin.score_thresh, "birth_score", tracking.birth_score),
        ("filter_score_thresh", origin.filter_score_thresh, "keep_score", tracking.keep_score),
        ("miss_tolerance", origin.miss_tolerance, "miss_tolerance", tracking.miss_tolerance),
    ):
        if said is not None and not math.isclose(said, own, rel_tol=1e-6):
            yield (
                f"{official} is {said:g} in the dump, tracking.{name} {own:g} in the bundle: convert again with the "
                f"training's --config, or with tracking.{name} = {said:g}"
            )


def _precision(origin: Origin) -> Iterator[str]:
    for name, used in (("TF32", origin.tf32), ("FP16", origin.fp16)):
        if used:
            yield f"the dump was made in {name}: errors may exceed the tolerances; dump in FP32 for a proof"


def _rotation(first: Mapping[str, np.ndarray]) -> CanBusRotation | None:
    can_bus = first.get("can_bus")
    return None if can_bus is None or not can_bus[3:7].any() else recorded_rotation(can_bus)


def _file(name: object, digest: object) -> str:
    return f"{shown(str(name or 'unknown'))} (sha256 {shown(str(digest), 12)})"


def _names(cameras: Sequence[str]) -> str:
    return shown(in_words(list(cameras)))
