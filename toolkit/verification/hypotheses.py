"""Settings of a recorded model that its frame may betray: with which changed inputs, or read how, it agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from toolkit.bundle import Bundle
from toolkit.config.model import CanBusRotation, YawConvention
from toolkit.data.ego_motion import recorded_pose, recorded_rotation, rotation_entries
from toolkit.data.pictures import IMAGE
from toolkit.errors import InputError
from toolkit.verification.comparison import Arrays, Comparison, compare
from toolkit.verification.policy import Policy
from toolkit.verification.settings import cameras_by_direction

CAN_BUS, PROJECTION = "can_bus", "lidar2img"


def betrayed_setting(
    bundle: Bundle,
    policy: Policy,
    frame: int,
    inputs: Arrays,
    recorded: Arrays,
    outputs: Arrays,
    run: Callable[[Arrays], list[Comparison]],
) -> str | None:
    """The setting that explains why `outputs` are not the recorded ones, in words; None if none does.

    `run` gives what fails on other inputs. Two runs at most are tried.
    """
    for reason, changed in changed_inputs(bundle, inputs):
        if not run(changed):
            return reason
    turned = turned_angles(bundle, recorded)
    if turned and all(c.passed for c in compare(bundle, policy, frame, {**recorded, **turned}, outputs)):
        clockwise = bundle.config.yaw_convention is YawConvention.CLOCKWISE
        other = YawConvention.HEADING if clockwise else YawConvention.CLOCKWISE
        return f"its yaws are those of yaw_convention {other}: convert again with --yaw-convention {other}"
    return None


def changed_inputs(bundle: Bundle, inputs: Arrays) -> Iterator[tuple[str, Arrays]]:
    """Inputs as they would be with another setting, and what it then is."""
    can_bus = inputs.get(CAN_BUS)
    if can_bus is not None and can_bus[3:7].any():
        found = recorded_rotation(can_bus)
        scalar = found is CanBusRotation.SCALAR
        other = CanBusRotation.QUATERNION if scalar else CanBusRotation.SCALAR
        try:
            quaternion = recorded_pose(can_bus.astype(np.float64), np.zeros(3), "").quaternion
        except InputError:
            return
        changed = can_bus.copy()
        changed[3:7] = rotation_entries(quaternion, other)
        yield (
            f"its can_bus holds the rotation in {found} form, but was fed in {other} form: dump again, or convert "
            f"with --can-bus-rotation {other}",
            {**inputs, CAN_BUS: changed},
        )
    cameras = bundle.config.image.cameras
    seen = cameras_by_direction(inputs.get(PROJECTION), cameras)
    if seen != cameras and {IMAGE, PROJECTION} <= inputs.keys():
        order = [seen.index(camera) for camera in cameras]
        yield (
            f"its inputs have the cameras in the order {', '.join(seen)}: dump again, or convert with that order of "
            "image.cameras",
            {**inputs, **{name: inputs[name][order] for name in (IMAGE, PROJECTION)}},
        )


def turned_angles(bundle: Bundle, recorded: Arrays) -> dict[str, np.ndarray]:
    """Recorded tensors with angles, as the other yaw convention has them; rows of zeros are padding and stay."""
    turned = {}
    for spec in bundle.outputs:
        if spec.angles and spec.name in recorded:
            entries = slice(None) if spec.angles == "all" else list(spec.angles)
            array = recorded[spec.name].copy()
            array[..., entries] = -array[..., entries] - np.pi / 2  # from either convention to the other
            padding = ~recorded[spec.name].reshape(len(array), -1).any(1)
            array[padding] = 0
            turned[spec.name] = array
    return turned
