"""The vector [18] that the reference calls can_bus: the ego's motion and pose, and readings of the vehicle bus.

It is made of poses and readings here alone, whatever the frames come from. Programs of the reference record it; that is
read here, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import CanBusRotation
from toolkit.data.fields import pose_field
from toolkit.data.frames import Float64Array, Frame, Pose

Float32Array = NDArray[np.float32]
FirstFrame = Literal["evaluation", "training"]
"""What the ego motion of a scene's first frame refers to: see `ego_motion`."""
RECORDED = "can_bus"
"""The vector's name among the inputs that a frame may bring."""
_TILT = 0.1
"""By how much w may differ from that of a rotation about the vertical: no road tilts a vehicle as far."""


def ego_motion(
    frame: Frame, previous: Frame | None, rotation: CanBusRotation, first_frame: FirstFrame = "evaluation"
) -> Float32Array:
    """The vector [18] of a frame.

    0:3 is the ego's move since `previous` along the global axes (m); 3:7 the ego-to-global rotation in the form that
    the model was trained with; 7:16 acceleration, rotation rate and velocity; 16 the heading in radians, in [0, 2π); 17
    the change of heading since `previous` in degrees, as a plain difference of two headings in [0, 360).

    At the first frame of a scene, "evaluation" does as the reference does when evaluated: it subtracts the previous
    scene's last pose, and nothing at the very first frame, which so carries its absolute pose. "training" puts zeros
    there, as the reference's training does.
    """
    position, heading = frame.ego2global.translation, _heading(frame)
    starts = previous is None or previous.scene != frame.scene
    if first_frame == "training" and starts:
        move, turn = np.zeros(3), 0.0
    elif previous is None:
        move, turn = position, heading
    else:
        move, turn = position - previous.ego2global.translation, heading - _heading(previous)
    can = frame.can
    parts: tuple[Float64Array, ...] = (
        move, rotation_entries(frame.ego2global.quaternion, rotation), can.acceleration, can.rotation_rate,
        can.velocity, np.array([math.radians(heading), turn]),
    )  # fmt: skip
    return np.concatenate(parts).astype(np.float32)


def rotation_entries(quaternion: Float64Array, rotation: CanBusRotation) -> Float64Array:
    """Entries 3:7 for the ego-to-global quaternion [4] (w, x, y, z)."""
    return np.full(4, quaternion[0]) if rotation is CanBusRotation.SCALAR else quaternion


def recorded_rotation(can_bus: NDArray[np.floating]) -> CanBusRotation:
    """The form of entries 3:7 in a vector [18] that another program made."""
    w, heading = float(can_bus[3]), float(can_bus[16])
    upright = abs(abs(w) - abs(math.cos(heading / 2))) < _TILT
    return CanBusRotation.SCALAR if upright and (can_bus[3:7] == w).all() else CanBusRotation.QUATERNION


def recorded_pose(can_bus: Float64Array, position: Float64Array, where: str) -> Pose:
    """The ego-to-global pose at a global `position` (m), as far as a vector [18] tells: without tilt in scalar form.

    Raises InputError, which begins with `where`, for entries that are no rotation.
    """
    if recorded_rotation(can_bus) is CanBusRotation.SCALAR:
        half = float(can_bus[16]) / 2
        return Pose(np.array([math.cos(half), 0.0, 0.0, math.sin(half)]), position)
    return pose_field(can_bus[3:7], position, where)


def warn_of_other_rotation(frames: Iterable[Frame], rotation: CanBusRotation, warn: Callable[[str], None]) -> None:
    """Warn if frames bring vectors of another form than the model's, which are fed as they are all the same."""
    for frame in frames:
        if RECORDED in frame.recorded and (found := recorded_rotation(frame.recorded[RECORDED])) is not rotation:
            warn(
                f"frame {frame.name}: its recorded can_bus has the rotation in {found} form, and is fed so; "
                f"the model was converted with can_bus_rotation {rotation}"
            )
            return


def _heading(frame: Frame) -> float:
    """Degrees in [0, 360)."""
    degrees = math.degrees(frame.ego2global.yaw)
    return degrees + 360 if degrees < 0 else degrees
