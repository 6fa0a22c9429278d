"""Rows of tables: tokens, rounded numbers, poses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from toolkit.data.frames import Pose

Row = dict[str, Any]

_DECIMALS, _ROTATION_DECIMALS = 4, 8
"""Coarser than the last digits, in which machines may differ."""


def token(*parts: object) -> str:
    """32 hexadecimal digits that follow from the parts alone."""
    return hashlib.md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def rounded(values: Iterable[float], decimals: int = _DECIMALS) -> list[float]:
    """Plain numbers, rounded; no negative zeros."""
    result: list[float] = (np.round(np.asarray(values, np.float64), decimals) + 0.0).tolist()
    return result


def pose_fields(pose: Pose) -> Row:
    """`translation` (metres) and `rotation` (w, x, y, z), as nuScenes names them."""
    return {
        "translation": rounded(pose.translation),
        "rotation": rounded(pose.quaternion, _ROTATION_DECIMALS),
    }
