"""Names of scenes and maps borrowed from nuScenes, so that nuscenes-devkit's splits and map API apply."""

from __future__ import annotations

from dataclasses import dataclass

_ONENORTH, _HOLLAND, _QUEENSTOWN, _BOSTON = (
    "singapore-onenorth",
    "singapore-hollandvillage",
    "singapore-queenstown",
    "boston-seaport",
)


@dataclass(frozen=True)
class Location:
    """A place of nuScenes: the file name of its map picture; `side` is 1 where one drives on the right, else -1."""

    name: str
    picture: str
    side: int


LOCATIONS = (
    Location(_ONENORTH, "53992ee3023e5494b90c316c183be829", -1),
    Location(_HOLLAND, "37819e65e09e5547b8a3ceaefba56bb2", -1),
    Location(_QUEENSTOWN, "93406b464a165eaba6d9de76ca09f5da", -1),
    Location(_BOSTON, "36092f0b03a857c6a3403e25b4b7aab3", 1),
)
"""The only maps that nuscenes-devkit accepts."""

_MINI = {
    61: _ONENORTH, 103: _BOSTON, 553: _BOSTON, 916: _QUEENSTOWN, 655: _BOSTON, 757: _BOSTON, 796: _QUEENSTOWN,
    1077: _HOLLAND, 1094: _HOLLAND, 1100: _HOLLAND,
}  # fmt: skip
SCENES = {
    "v1.0-mini": _MINI,
    "v1.0-trainval": _MINI | dict.fromkeys((1, 3, 2, 12, 4, 13, 5, 14, 6, 15), _ONENORTH),
    "v1.0-test": dict.fromkeys(range(77, 87), _ONENORTH),
}
"""Numbers of scenes and their locations, by version; the first two belong to a training and a validation split."""

UNANNOTATED = frozenset({"v1.0-test"})
"""Versions that come without annotations, as in nuScenes."""


def scene_name(number: int) -> str:
    return f"scene-{number:04d}"
