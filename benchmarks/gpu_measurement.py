"""One session on a GPU over a drive: the time of every frame, what the GPU did in it, and memory."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu_work import GpuWork, ProfiledSession
from toolkit.benchmarking.timed import Part, timed
from toolkit.bundle import Bundle
from toolkit.data.stage_clock import Stage, StageClock
from toolkit.engines.session import Session
from toolkit.engines.torch import TorchSession
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.runtime.temporal_runner import TemporalRunner

WARM_UP_FRAMES = 5
PROFILED_FRAMES = 3
PERCENTILES = (50, 90, 99)
Frame = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Measurement:
    """One session over the drive. `objects` are the ids reported in each counted frame."""

    session: str
    precision: Precision
    open_seconds: float
    """Making the session; `first_frame_seconds` has what it leaves to the first frame, such as capturing the graph."""
    first_frame_seconds: float
    milliseconds: Mapping[str, tuple[float, ...]]
    work: GpuWork
    peak_reserved_bytes: int
    """Of torch's allocator; `used_bytes` of the GPU's memory in all, with CUDA's own."""
    used_bytes: int
    objects: tuple[frozenset[int], ...]
    stages: Mapping[str, tuple[float, ...]]
    """Milliseconds of every stage of `uniad-toolkit benchmark` in each frame; nothing without pictures."""

    def percentiles(self, part: Part) -> dict[str, float]:
        """Milliseconds of a part of the network stage."""
        return percentiles(np.array(self.milliseconds[part]))

    @property
    def transfers(self) -> dict[str, float]:
        """Milliseconds between decoded pictures and results that are not the model's; nothing without pictures."""
        if not self.stages:
            return {}
        preprocess, network, model = (np.array(self.stages[s]) for s in (Stage.PREPROCESS, Stage.NETWORK, Part.MODEL))
        return percentiles(preprocess + network - model)

    @property
    def changes(self) -> tuple[int, int]:
        """How many objects appeared and vanished from one counted frame to the next."""
        pairs = list(zip(self.objects, self.objects[1:], strict=False))
        return sum(len(after - before) for before, after in pairs), sum(len(before - after) for before, after in pairs)


def measure(
    open_session: Callable[[], Session],
    bundle: Bundle,
    drive: Sequence[Frame],
    frames: int,
    picture_frames: int,
    precision: Precision,
) -> Measurement:
    """Run `frames` frames after those to warm up, look at a few more with the profiler, and run some with pictures."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    session = open_session()
    torch.cuda.synchronize()
    open_seconds = time.perf_counter() - started
    clock = StageClock[str]()
    runner = TemporalRunner(bundle, timed(session, clock))
    laps: list[Mapping[str, float]] = []
    objects: list[frozenset[int]] = []
    for number in range(frames + WARM_UP_FRAMES):
        results = runner.step(drive[number % len(drive)])
        laps.append(clock.take())
        objects.append(frozenset(results["box_ids"][: results["box_count"].item()].tolist()))
    free, total = torch.cuda.mem_get_info()
    profiled = ProfiledSession(session)
    runner = TemporalRunner(bundle, profiled)
    for frame in drive[:PROFILED_FRAMES]:
        runner.step(frame)
    counted = laps[WARM_UP_FRAMES:]
    return Measurement(
        session="eager" if type(session) is TorchSession else session.name,
        precision=precision,
        open_seconds=open_seconds,
        first_frame_seconds=laps[0][Part.MODEL],
        milliseconds={part: tuple(1e3 * lap[part] for lap in counted) for part in Part if part in counted[0]},
        work=profiled.works[-1],
        peak_reserved_bytes=torch.cuda.max_memory_reserved(),
        used_bytes=total - free,
        objects=tuple(objects[WARM_UP_FRAMES:]),
        stages=time_stages(session, bundle, picture_frames) if picture_frames else {},
    )


def time_stages(session: Session, bundle: Bundle, frames: int) -> dict[str, tuple[float, ...]]:
    """Milliseconds of every stage in each frame, from files to results."""
    from toolkit.benchmarking.measure import WARM_UP, benchmark
    from toolkit.benchmarking.probe_pictures import write_probe_frames

    with tempfile.TemporaryDirectory() as folder:
        pictures = write_probe_frames(bundle.config, frames + WARM_UP, Path(folder))
        result = benchmark(bundle, session, PluginManager.load().submodules(), pictures)
    return {timing.name: tuple(1e3 * seconds for seconds in timing.seconds) for timing in result.timings}


def percentiles(values: np.ndarray) -> dict[str, float]:
    """By their names."""
    return {f"p{p}": float(value) for p, value in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}
