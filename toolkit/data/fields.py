"""Reading frames out of files: typed values of named fields, checked, with the place and the remedy in every error.

`where` is a field's full place, such as "0001.json: cameras.CAM_BACK.intrinsics".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from toolkit.data.frames import Command, Float64Array, Pose
from toolkit.errors import InputError
from toolkit.storage.typed import number_array
from toolkit.text import quoted

ROTATION_TOLERANCE = 1e-3
"""Largest deviation of RᵀR from the identity, or of a quaternion's norm from 1: rounding to four decimals is fine."""
_LARGEST = 1e9
"""No position in metres, reading or camera parameter in pixels comes near."""


def text_field(value: Any, where: str) -> str:
    """A string of at least one character."""
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: expected a non-empty string, found {quoted(value)}")
    return value


def name_field(value: Any, where: str) -> str:
    """The same, of whole characters, so that it can be written to files of text."""
    name = text_field(value, where)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: expected text, found half a character in {quoted(name)}") from error
    return name


def object_field(
    value: Any, where: str, required: Sequence[str], optional: Sequence[str] | None = ()
) -> dict[str, Any]:
    """An object that has the `required` fields and no others than `optional` ones (None: any).

    A `where` that names a whole file ends in ": ".
    """
    if not isinstance(value, dict):
        raise InputError(f"{where.rstrip(': ')}: expected an object with named fields, found {quoted(value)}")
    inside = where if where.endswith(": ") else f"{where}."
    missing = [name for name in required if name not in value]
    if missing:
        raise InputError(f"{inside}{missing[0]}: is missing; give all of {', '.join(required)}")
    unknown = [name for name in value if optional is not None and name not in (*required, *optional)]
    if unknown:
        raise InputError(
            f"{inside}{unknown[0]}: is unknown; known here are {', '.join((*required, *(optional or ())))}"
        )
    return value


def array_field(value: Any, where: str, shape: tuple[int, ...]) -> Float64Array:
    """Finite numbers in nested lists, or an array, of this shape."""
    try:
        array = number_array(value, shape)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    if not np.isfinite(array).all():
        raise InputError(f"{where}: holds a value that is not finite; leave the frame out or repair its calibration")
    if np.abs(array).max() > _LARGEST:
        raise InputError(f"{where}: holds a value above {_LARGEST:g}; give metres, pixels, m/s², rad/s or m/s")
    return array


def pose_field(rotation: Any, translation: Any, where: str) -> Pose:
    """A rigid transform: a unit quaternion (w, x, y, z) or a rotation matrix, and a translation in metres.

    Their places are `where`.rotation and `where`.translation.
    """
    moved = array_field(translation, f"{where}.translation", (3,))
    if rotation.shape == (4,) if isinstance(rotation, np.ndarray) else _is_list(rotation, 4):
        quaternion = array_field(rotation, f"{where}.rotation", (4,))
        norm = float(np.linalg.norm(quaternion))
        if abs(norm - 1) > ROTATION_TOLERANCE:
            raise InputError(f"{where}.rotation: the quaternion (w, x, y, z) has norm {norm:.4g}; normalise it to 1")
        return Pose(quaternion, moved)
    matrix = array_field(rotation, f"{where}.rotation", (3, 3))
    deviation = float(np.abs(matrix.T @ matrix - np.eye(3)).max())
    if deviation > ROTATION_TOLERANCE:
        raise InputError(
            f"{where}.rotation: the matrix is not orthonormal (RᵀR differs from the identity by {deviation:.3g}); "
            "give a pure rotation, without scale or shear"
        )
    if np.linalg.det(matrix) < 0:
        raise InputError(f"{where}.rotation: the matrix is a reflection; all coordinate frames here are right-handed")
    return Pose.from_matrix(matrix, moved)


def intrinsics_field(value: Any, where: str) -> Float64Array:
    """A camera matrix [3, 3] in pixels."""
    intrinsics = array_field(value, where, (3, 3))
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0 or intrinsics[2].tolist() != [0, 0, 1]:
        raise InputError(
            f"{where}: is no camera matrix; give [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels of the "
            "full-size image, with positive focal lengths"
        )
    return intrinsics


def command_field(value: Any, where: str) -> Command:
    """A driving command by name or number."""
    for command in Command:
        if value == command.name.lower() or (type(value) in (int, float) and value == command):
            return command
    raise InputError(f'{where}: expected "right", "left", "straight" or 0, 1, 2 in this order, found {quoted(value)}')


def _is_list(value: Any, length: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == length
