"""Scenes that an earlier run finished, and that another one need not run again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from toolkit.batch.scenes import Scene
from toolkit.errors import InputError
from toolkit.runtime.result_reader import read_result
from toolkit.runtime.run_record import FrameRecord, RunRecord
from toolkit.text import in_words


@dataclass(frozen=True, eq=False)
class FinishedScenes:
    """Scenes that are wholly there in `folder`: of each of their frames, by name, the record and the files."""

    folder: Path
    frames: Mapping[str, tuple[FrameRecord, Sequence[Path]]]

    @classmethod
    def read(cls, folder: Path, run: RunRecord, scenes: Iterable[Scene], *, pictures: bool) -> FinishedScenes:
        """Which of the scenes `run` left in a folder, with `pictures` if those are wanted; damaged ones do not count.

        Raises InputError if that was another bundle, or in another way than `run`.
        """
        found = RunRecord.read(folder)
        for what in ("bundle", "session", "precision", "decoder", "first_frame", "refinements"):
            own, other = (in_words(getattr(one, what)) or "none" for one in (run, found))
            if own != other:
                name = what.replace("_", " ")
                raise InputError(f"--resume {folder}: its {name} is {other:.40}, not {own:.40}; run as then, or anew")
        records = {record.frame: record for record in found.frames}
        frames: dict[str, tuple[FrameRecord, Sequence[Path]]] = {}
        for scene in scenes:
            with suppress(InputError, KeyError):  # none of its frames can be run without those before it
                own_records = [records[frame.name] for frame in scene.frames]
                frames |= {
                    record.frame: (record, _files(folder, record, frame.scene, pictures=pictures))
                    for record, frame in zip(own_records, scene.frames, strict=True)
                }
        return cls(folder, frames)

    def has(self, scene: Scene) -> bool:
        """Whether all of the scene is there."""
        return scene.frames[0].name in self.frames

    def take(self, scene: Scene, folder: Path) -> list[FrameRecord]:
        """Put the scene's results into another folder as well; gives what became of its frames.

        Raises InputError for a file that is gone meanwhile.
        """
        taken = [self.frames[frame.name] for frame in scene.frames]
        for file in chain.from_iterable(files for _, files in taken):
            if not file.is_file():
                raise InputError(
                    f"--resume {self.folder}: {file.name} was removed meanwhile; leave the folder as it is"
                )
            _link(file, folder / file.name)
        return [record for record, _ in taken]


def _files(folder: Path, record: FrameRecord, scene: str, *, pictures: bool) -> list[Path]:
    """Those of a frame's results. Raises InputError if they are damaged, not all there, or of another scene."""
    if record.left_out and record.scene == scene:
        return []
    result, grids, picture = (folder / f"{record.frame}{suffix}" for suffix in (".json", ".npz", ".png"))
    if not scene == record.scene == read_result(result).scene or (pictures and not picture.is_file()):
        raise InputError(f"{result} is of another scene, or has no picture")
    return [result, *([grids] if grids.is_file() else []), *([picture] if pictures else [])]


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
        os.link(file.resolve(), place)  # not a second link to what it leads to, which may be relative
    except OSError:
        shutil.copyfile(file, place)
