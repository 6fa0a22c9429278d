"""Scenes that an earlier run finished, and that another one need not run again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from toolkit.batch.scenes import Scene
from toolkit.errors import InputError
from toolkit.runtime.run_record import FrameRecord, RunRecord
from toolkit.text import in_words


@dataclass(frozen=True, eq=False)
class FinishedScenes:
    """Results in `folder`, whose frames have these records, by name; with `pictures` those are wanted as well."""

    folder: Path
    records: Mapping[str, FrameRecord]
    pictures: bool

    @classmethod
    def read(cls, folder: Path, run: RunRecord, *, pictures: bool) -> FinishedScenes:
        """What `run` left in a folder. Raises InputError if that was another bundle, or in another way than `run`."""
        found = RunRecord.read(folder)
        for what in ("bundle", "session", "precision", "decoder", "first_frame", "refinements"):
            own, other = (in_words(getattr(one, what)) or "none" for one in (run, found))
            if own != other:
                name = what.replace("_", " ")
                raise InputError(f"--resume {folder}: its {name} is {other:.40}, not {own:.40}; run as then, or anew")
        return cls(folder, {record.frame: record for record in found.frames}, pictures)

    def has(self, scene: Scene) -> bool:
        """Whether all of the scene is there: none of its frames can be run without those before it."""
        return all(self._has(frame.name, frame.scene) for frame in scene.frames)

    def _has(self, frame: str, scene: str) -> bool:
        record = self.records.get(frame)
        if record is None or record.scene != scene:
            return False
        wanted = [] if record.left_out else [".json", *([".png"] if self.pictures else [])]
        return all((self.folder / f"{frame}{suffix}").is_file() for suffix in wanted)

    def take(self, scene: Scene, folder: Path) -> list[FrameRecord]:
        """Put the scene's results into another folder as well; gives what became of its frames."""
        for frame in scene.frames:
            for suffix in (".json", ".npz", ".png"):
                file = self.folder / f"{frame.name}{suffix}"
                if file.is_file() and (suffix != ".png" or self.pictures):
                    _link(file, folder / file.name)
        return [self.records[frame.name] for frame in scene.frames]


def in_scene_order(
    scenes: Sequence[Scene], finished: FinishedScenes | None, run: Iterable[FrameRecord], folder: Path
) -> Iterator[FrameRecord]:
    """The records of all scenes: of those that are finished, which are taken, and of the others, which `run` gives."""
    fresh = iter(run)
    for scene in scenes:
        if finished is not None and finished.has(scene):
            yield from finished.take(scene, folder)
        else:
            yield from islice(fresh, len(scene.frames))


def _link(file: Path, place: Path) -> None:
    """The same file under a second name, or a copy where that cannot be."""
    try:
        os.link(file, place)
    except OSError:
        shutil.copyfile(file, place)
