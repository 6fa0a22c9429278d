"""Frames by scene: no state passes from one scene to the next, so that each can run anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from toolkit.data.frames import Frame
from toolkit.errors import InputError


@dataclass(frozen=True, eq=False)
class Scene:
    """The frames of one scene, and the last one of the scene before it, to which its first ego motion may refer."""

    frames: tuple[Frame, ...]
    previous: Frame | None


@dataclass(frozen=True)
class Shard:
    """Every `count`-th scene, from scene `index` on."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From INDEX/COUNT, counted from 0. Raises InputError for anything else."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
        if match is None or int(match[1]) >= int(match[2]):
            raise InputError(f"--shard {text} is not INDEX/COUNT with INDEX from 0 to COUNT - 1, such as 0/4")
        return cls(int(match[1]), int(match[2]))

    def of(self, scenes: Sequence[Scene]) -> Sequence[Scene]:
        """Those of the scenes that are in this shard; there may be none."""
        return scenes[self.index :: self.count]


def split_scenes(frames: Iterable[Frame]) -> Iterator[Scene]:
    """The scenes in order."""
    previous = None
    for _, members in groupby(frames, key=lambda frame: frame.scene):
        scene = Scene(tuple(members), previous)
        yield scene
        previous = scene.frames[-1]
