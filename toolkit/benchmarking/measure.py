"""A bundle's frames, timed stage by stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.batch.finishing import Finisher, layers_of
from toolkit.benchmarking.environment import Memory, environment, peak_memory
from toolkit.benchmarking.submodules import Seconds, seconds_by_submodule
from toolkit.benchmarking.timed import Part, timed, timed_frames
from toolkit.bundle import Bundle
from toolkit.data.frames import Frame
from toolkit.data.stage_clock import Stage, StageClock
from toolkit.engines.session import Session
from toolkit.runtime.sequence import run_sequence
from toolkit.specs import Submodule
from toolkit.storage.outputs import temporary_folder

WARM_UP = 1
"""Frames at the start that are not counted: sessions allocate memory and choose algorithms then."""
PERCENTILES = (50, 90, 99)
WHOLE_FRAME = "whole frame"
DECODE = "decode"


@dataclass(frozen=True)
class Timing:
    """What a stage, or a part of another one, took in each frame, in seconds."""

    name: str
    part_of: str | None
    seconds: tuple[float, ...]

    @property
    def milliseconds(self) -> dict[str, float]:
        """Percentiles over the frames, and the mean."""
        values = 1000 * np.asarray(self.seconds)
        percentiles = np.percentile(values, PERCENTILES)
        named = {f"p{p}": float(value) for p, value in zip(PERCENTILES, percentiles, strict=True)}
        return named | {"mean": float(values.mean())}


@dataclass(frozen=True)
class Benchmark:
    """What was measured, each stage followed by its parts; `frames` is how many were counted."""

    bundle: str
    session: str
    frames: int
    timings: tuple[Timing, ...]
    frames_per_second: float
    memory: Memory
    environment: Mapping[str, str]


def benchmark(
    bundle: Bundle,
    session: Session,
    submodules: Sequence[Submodule],
    frames: Sequence[Frame],
    on_frame: Callable[[], None] = lambda: None,
) -> Benchmark:
    """Run the frames in turn, write and draw them, then run them again to look into the model.

    The first `WARM_UP` of them are not counted. `on_frame` is called after each. Raises InputError for a bad frame.
    """
    clock, parts = StageClock[Stage](), StageClock[str]()
    laps: list[dict[str, float]] = []
    layers = layers_of(submodules)
    started = time.perf_counter()
    watched, sources = timed(session, parts), timed_frames(frames, parts)
    with temporary_folder("results") as folder:
        finisher = Finisher(folder, pictures=True)
        for number, result in enumerate(run_sequence(bundle, watched, submodules, sources, clock=clock), 1):
            finished = finisher.finish(result, layers).seconds
            laps.append(dict[str, float]((*clock.take().items(), *finished.items(), *parts.take().items())))
            if number == WARM_UP:
                started = time.perf_counter()
            on_frame()
            clock.skip()
        elapsed, memory = time.perf_counter() - started, peak_memory()

    def run(observed: Session) -> None:
        for _ in run_sequence(bundle, observed, submodules, frames):
            on_frame()

    inside = seconds_by_submodule(bundle, session, run)
    counted = len(laps) - WARM_UP
    return Benchmark(
        bundle=bundle.identity,
        session=session.name,
        frames=counted,
        timings=tuple(_timings(laps[WARM_UP:], inside[WARM_UP:])),
        frames_per_second=counted / elapsed,
        memory=memory,
        environment=environment(session.name),
    )


def _timings(laps: Sequence[Mapping[str, float]], inside: Seconds) -> list[Timing]:
    """Stages and their parts in the order in which a frame goes through them."""

    def timing(name: str, part_of: str | None = None) -> Timing:
        return Timing(name, part_of, tuple(lap.get(name, 0.0) for lap in laps))

    prepare = [timing(Part.PREPARE, Stage.NETWORK)] if any(Part.PREPARE in lap for lap in laps) else []
    load, read = timing(Stage.LOAD), timing(Part.READ, Stage.LOAD)
    decoded = tuple(whole - part for whole, part in zip(load.seconds, read.seconds, strict=True))
    model = [
        Timing(name, Part.MODEL, tuple(frame.get(name, 0.0) for frame in inside))
        for name in dict.fromkeys(name for frame in inside for name in frame)
    ]
    return [
        load,
        read,
        Timing(DECODE, Stage.LOAD, decoded),
        timing(Stage.PREPROCESS),
        timing(Stage.NETWORK),
        timing(Part.UPLOAD, Stage.NETWORK),
        *prepare,
        timing(Part.MODEL, Stage.NETWORK),
        *model,
        timing(Part.DOWNLOAD, Stage.NETWORK),
        timing(Part.CHECK, Stage.NETWORK),
        *(timing(stage) for stage in (Stage.POSTPROCESS, Stage.WRITE, Stage.DRAW)),
        Timing(WHOLE_FRAME, None, tuple(sum(lap[stage] for stage in Stage if stage in lap) for lap in laps)),
    ]
