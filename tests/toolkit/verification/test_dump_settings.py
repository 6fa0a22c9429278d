"""The settings of a bundle beside those that a dump states, or betrays by its inputs."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from toolkit.bundle import Bundle
from toolkit.config.model import CAMERAS, CanBusRotation, YawConvention
from toolkit.data.ego_motion import rotation_entries
from toolkit.reference_interface.dump import Origin
from toolkit.verification.settings import SettingsCheck, cameras_by_direction, check_settings


def test_a_checkpoint_that_only_the_dump_knows_is_noted(toy_bundle: Bundle) -> None:
    check = check_settings(Origin(checkpoint_sha256="b" * 64), replace(toy_bundle, provenance={}), {})
    assert check.differing == ()
    assert "of the bundle's nothing is known: they are not compared; convert again" in check.notes[0]


SETTINGS: dict[str, tuple[dict[str, object], str]] = {
    "checkpoint": (
        {"checkpoint": "best.pth", "checkpoint_sha256": "b" * 64},
        r"the dump was made with checkpoint best\.pth \(sha256 bbb.*the bundle is converted from tiny\.pth \(sha256 aaa"
        ".*: convert the former, or dump with the latter",
    ),
    "birth": ({"score_thresh": 0.2}, r"score_thresh is 0\.2 in the dump, tracking\.birth_score 0 in the bundle: conv"),
    "survival": ({"filter_score_thresh": 0.1}, r"filter_score_thresh is 0\.1 in the dump, tracking\.keep_score 0 in"),
    "misses": ({"miss_tolerance": 3}, r"miss_tolerance is 3 in the dump, tracking\.miss_tolerance 5 in the bundle"),
    "yaw of v2.0": (
        {"yaw_convention": "heading"},
        "yaw_convention is heading in the dump, clockwise in the bundle: convert again with --yaw-convention heading",
    ),
    "quaternion": (
        {"can_bus_rotation": "quaternion"},
        "can_bus holds the rotation in quaternion form in the dump, can_bus_rotation is scalar in the bundle: convert "
        "again with --can-bus-rotation quaternion",
    ),
    "cameras": (
        {"cameras": (CAMERAS[1], CAMERAS[0], *CAMERAS[2:])},
        r"the cameras are CAM_FRONT_RIGHT, CAM_FRONT, .* in the dump, CAM_FRONT, CAM_FRONT_RIGHT, .* in the bundle",
    ),
}


@pytest.mark.parametrize(("said", "message"), SETTINGS.values(), ids=SETTINGS)
def test_another_setting_is_named_with_its_remedy(said: dict[str, Any], message: str, toy_bundle: Bundle) -> None:
    known = replace(toy_bundle, provenance={"checkpoint": "tiny.pth", "checkpoint_sha256": "a" * 64})
    origin = replace(Origin(), **said)
    [line] = check_settings(origin, known, {}).differing
    assert re.match(message, line)


def test_equal_settings_are_no_news(toy_bundle: Bundle) -> None:
    tracking = toy_bundle.config.tracking
    origin = Origin(
        checkpoint_sha256="a" * 64,
        score_thresh=tracking.birth_score,
        filter_score_thresh=tracking.keep_score,
        miss_tolerance=tracking.miss_tolerance,
        yaw_convention=YawConvention.CLOCKWISE,
        can_bus_rotation=CanBusRotation.SCALAR,
        cameras=CAMERAS,
    )
    known = replace(toy_bundle, provenance={"checkpoint_sha256": "a" * 64})
    assert check_settings(origin, known, {}) == SettingsCheck((), ())


@pytest.mark.parametrize("found", CanBusRotation)
@pytest.mark.parametrize("ours", CanBusRotation)
def test_rotation_by_the_inputs(ours: CanBusRotation, found: CanBusRotation, toy_bundle: Bundle) -> None:
    """Four times w betrays a training's data set; a whole quaternion may as well be made up, which is a note only."""
    can_bus = np.zeros(18, np.float32)
    can_bus[3:7] = rotation_entries(np.array([np.cos(0.4), 0, 0, np.sin(0.4)]), found)
    can_bus[16] = 0.8
    fed = replace(toy_bundle, config=replace(toy_bundle.config, can_bus_rotation=ours))
    check = check_settings(Origin(), fed, {"can_bus": can_bus})
    lines = (check.differing, check.notes)[found is CanBusRotation.QUATERNION]
    assert (check.differing + check.notes) == lines
    assert [f"again with --can-bus-rotation {found}" in line for line in lines] == [True] * (ours is not found)


def test_cameras_by_where_they_look() -> None:
    """nuScenes' six, by the third rows of their projections; others, and unclear ones, are taken as named."""
    angles = np.radians([0, -55, 55, 180, 110, -110])
    matrices = np.zeros((6, 4, 4), np.float32)
    matrices[:, 2, 0], matrices[:, 2, 1] = -np.sin(angles), np.cos(angles)
    assert cameras_by_direction(matrices, CAMERAS) == CAMERAS
    order = [0, 2, 1, 3, 4, 5]
    assert cameras_by_direction(matrices[order], CAMERAS) == tuple(CAMERAS[i] for i in order)
    assert cameras_by_direction(np.zeros_like(matrices), CAMERAS) == CAMERAS
    assert cameras_by_direction(matrices[order], list("abcdef")) == tuple("abcdef")


@pytest.mark.parametrize(("name", "value"), [("TF32", {"tf32": True}), ("FP16", {"fp16": True})])
def test_reduced_precision_of_the_dump_is_noted(name: str, value: dict[str, bool], toy_bundle: Bundle) -> None:
    [note] = check_settings(Origin(**value), toy_bundle, {}).notes  # type: ignore[arg-type]
    assert note.startswith(f"the dump was made in {name}: errors may exceed the tolerances")
