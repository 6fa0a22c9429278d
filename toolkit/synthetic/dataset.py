"""Synthetic drives as a nuScenes dataset on disk."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2

from toolkit.batch.processes import process_map
from toolkit.errors import InputError
from toolkit.storage.claims import claim_folder
from toolkit.storage.outputs import new_folder
from toolkit.synthetic.recorder import ScenePlan, record_scene, write_json
from toolkit.synthetic.schema.map_expansion import map_expansion
from toolkit.synthetic.schema.map_picture import map_picture
from toolkit.synthetic.schema.recording import Recording
from toolkit.synthetic.schema.tables import build_tables
from toolkit.synthetic.versions import LOCATIONS, SCENES, UNANNOTATED
from toolkit.synthetic.world.town import Town, build_town

MOST_KEYFRAMES = 2000
"""Key frames of one scene, a thousand seconds: the next scene starts an hour later."""
SMALLEST_SCALE = 0.05
"""Of pictures: they are 80 x 45 pixels then."""


@dataclass(frozen=True)
class DriveSettings:
    """What to make. `image_scale` makes pictures smaller than 1600x900, together with the intrinsics.

    Raises InputError for values that cannot be.
    """

    scenes: int = 2
    keyframes: int = 40
    seed: int = 0
    version: str = "v1.0-mini"
    image_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.version not in SCENES:
            raise InputError(f"--version {self.version}: is not a version of nuScenes; use {', '.join(SCENES)}")
        available = len(SCENES[self.version])
        if not 1 <= self.scenes <= available:
            raise InputError(f"--scenes {self.scenes}: {self.version} has names for 1 to {available} scenes")
        if not 1 <= self.keyframes <= MOST_KEYFRAMES:
            raise InputError(f"--keyframes {self.keyframes}: must be 1 to {MOST_KEYFRAMES}")
        if self.seed < 0:
            raise InputError(f"--seed {self.seed}: must not be negative")
        if not SMALLEST_SCALE <= self.image_scale <= 1:
            raise InputError(f"--image-scale {self.image_scale}: must be {SMALLEST_SCALE} to 1")


def synthesize(
    output: Path, settings: DriveSettings, *, force: bool = False, inputs: Iterable[Path] = (), workers: int = 1
) -> Generator[str, None, tuple[Recording, ...]]:
    """Write the dataset as the folder `output`; yields a line a key frame, and returns what was recorded.

    The files are the same with any number of `workers`, processes that record a scene each; with several, a scene's
    lines come when all of it is done. Raises InputError if `output` exists and `force` does not allow to replace it, is
    or holds one of `inputs`, or cannot be written.
    """
    scenes = list(SCENES[settings.version].items())[: settings.scenes]
    with new_folder(claim_folder(output, "nuScenes dataset", force=force, inputs=inputs)) as folder:
        towns = {location.name: build_town(location, settings.seed) for location in LOCATIONS}
        for town in towns.values():
            _write_map(folder, town)
        plans = [
            (towns[location], ScenePlan(number, index, settings.seed, settings.keyframes, settings.image_scale))
            for index, (number, location) in enumerate(scenes)
        ]
        recordings = yield from _record(folder, plans, workers)
        annotated = settings.version not in UNANNOTATED
        for name, rows in build_tables(settings.seed, recordings, annotated=annotated).items():
            write_json(folder / settings.version / f"{name}.json", rows)
    return tuple(recordings)


def _record(
    folder: Path, plans: Sequence[tuple[Town, ScenePlan]], workers: int
) -> Generator[str, None, list[Recording]]:
    recordings = []
    if workers == 1:
        for town, plan in plans:
            recordings.append((yield from record_scene(folder, town, plan)))
        return recordings
    with process_map(partial(_whole_scene, folder), plans, workers) as scenes:
        for lines, recording in scenes:
            yield from lines
            recordings.append(recording)
    return recordings


def _whole_scene(folder: Path, scene: tuple[Town, ScenePlan]) -> tuple[list[str], Recording]:
    """In a process of several."""
    cv2.setNumThreads(1)
    lines, recorder = [], record_scene(folder, *scene)
    try:
        while True:
            lines.append(next(recorder))
    except StopIteration as end:
        return lines, end.value


def _write_map(folder: Path, town: Town) -> None:
    picture = cv2.imencode(".png", map_picture(town))[1].tobytes()
    for path in (folder / f"maps/{town.location.picture}.png", folder / f"maps/basemap/{town.location.name}.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    write_json(folder / f"maps/expansion/{town.location.name}.json", map_expansion(town))
