"""What `run` does to scenes, in its own process or in a worker's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from toolkit.batch.at_once import scenes_at_once
from toolkit.batch.cluster import Cluster, cluster_records
from toolkit.batch.finishing import Finisher, Finishing, Means, at_once, in_processes, layers_of
from toolkit.batch.gpus import gpu_records, visible_gpus
from toolkit.batch.scenes import Scene
from toolkit.batch.workers import scene_workers
from toolkit.batch.writer import SceneWriter
from toolkit.bundle import Bundle
from toolkit.cli.console import print_warning, step, without_progress
from toolkit.cli.sessions import open_session, session_kind
from toolkit.data.decoder import Decoder
from toolkit.data.device_decoding import DeviceDecoder
from toolkit.data.ego_motion import FirstFrame
from toolkit.engines.session import SharedSession
from toolkit.errors import InputError
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.runtime.interpreter import Interpreter
from toolkit.runtime.run_record import FrameRecord
from toolkit.specs import Refinement, refinements_of

MOST_HELPERS = 8
"""By default: a frame takes 25 ms of a core to decode and 60 to draw, so that they keep up with any network."""
FRAMES_A_HELPER = 8
"""By default at least: a process takes as long to start as to draw so many."""


@dataclass(frozen=True)
class RunJob:
    """How to run scenes, in values that another process understands.

    `threads` are those of the session, and in a worker those of preprocessing too; `refinements` are options of those
    that are asked for. `helpers` is how many threads decode, and how many processes post-process, write and draw beside
    the network, by default as many as there are cores for. `decoder` makes pixels of the pictures.
    `scenes_at_once` are run by threads of one process, and each of so many `gpus` has a process of its own.
    """

    bundle: Path
    session: str
    precision: Precision
    first_frame: FirstFrame
    pictures: bool
    folder: Path
    plugin_files: tuple[Path, ...]
    disabled_plugins: tuple[str, ...]
    threads: int | None = None
    refinements: tuple[str, ...] = ()
    helpers: int | None = None
    decoder: Decoder = Decoder.OPENCV
    scenes_at_once: int = 1
    gpus: int = 1

    def open(self) -> SceneWriter:
        """What runs the scenes, in a process that has no plugins yet."""
        cv2.setNumThreads(self.threads or 1)
        return self.open_with(self._plugins())

    @contextmanager
    def records(self, scenes: Sequence[Scene]) -> Iterator[Iterator[FrameRecord]]:
        """A share of the scenes of several GPUs, in a process that has no plugins yet and prints nothing."""
        cv2.setNumThreads(self.threads or 1)
        job = replace(self, gpus=1)
        with without_progress(True), run_records(job, self._plugins(), scenes, workers=1) as records:
            yield records

    def open_with(self, plugins: PluginManager) -> SceneWriter:
        """What runs the scenes, in this process."""
        bundle = Bundle.read(self.bundle)
        session = open_session(bundle, self.session, plugins, precision=self.precision, threads=self.threads)
        decoder = open_decoder(self.decoder)
        refinements = self._refinements(plugins)
        return SceneWriter(
            bundle, session, plugins.submodules(), self.first_frame, self.pictures, self.folder, refinements, decoder
        )

    def open_means(self) -> Means:
        """What makes results of outputs, in a process that has no plugins yet."""
        return self.means_with(self._plugins())

    def means_with(self, plugins: PluginManager) -> Means:
        """The same, in this process."""
        submodules = plugins.submodules()
        interpret = Interpreter.of(Bundle.read(self.bundle), submodules, self._refinements(plugins))
        return Means(interpret, layers_of(submodules))

    def _plugins(self) -> PluginManager:
        """Those of a process that has none yet."""
        return PluginManager.load(
            self.plugin_files,
            disabled=self.disabled_plugins,
            warn=lambda _: None,  # the main process has warned
        )

    def _refinements(self, plugins: PluginManager) -> list[Refinement]:
        offered = refinements_of(plugins.submodules())
        return [offered[option] for option in self.refinements]


@contextmanager
def run_records(
    job: RunJob, plugins: PluginManager, scenes: Sequence[Scene], workers: int, cluster: str | None = None
) -> Iterator[Iterator[FrameRecord]]:
    """The record of every frame in order, as it is done; with several workers or a cluster, as its scene is done."""
    if cluster is not None:
        threads = job.threads or 1
        place = Cluster(cluster, workers, cpus=threads, gpus=session_kind(plugins, job.session).gpus)
        with cluster_records(replace(job, threads=threads), scenes, place, job.folder, print_warning) as records:
            yield records
        return
    if job.gpus > 1:
        gpus = visible_gpus(job.gpus, gpus_here())[: len(scenes)]
        share = replace(job, helpers=helpers_each(job.gpus) if job.helpers is None else job.helpers)
        with gpu_records(share, scenes, gpus) as records:
            yield records
        return
    if workers > 1:
        with scene_workers(job, scenes, workers) as records:
            yield records
        return
    frames = sum(len(scene.frames) for scene in scenes)
    helpers = helpers_by_default(frames) if job.helpers is None else job.helpers
    several = job.scenes_at_once > 1
    with finishing(job, plugins, min(helpers, frames)) as finish:
        with step(f"load the {job.session} session"):
            writer = job.open_with(plugins)
        if several:
            records = scenes_at_once(writers_at_once(writer, job, len(scenes)), scenes, finish, helpers)
        else:
            records = writer.run(scenes, finish, helpers)
        with closing(records):
            yield records


def finishing(job: RunJob, plugins: PluginManager, helpers: int) -> AbstractContextManager[Finishing]:
    """In so many processes; without helpers at once."""
    finisher = Finisher(job.folder, job.pictures)
    if not helpers:
        return nullcontext(at_once(finisher, job.means_with(plugins)))
    return in_processes(finisher, job, helpers)


def open_decoder(decoder: Decoder) -> DeviceDecoder | None:
    """What decodes pictures in OpenCV's place. Raises InputError if this machine cannot have it."""
    if decoder is Decoder.OPENCV:
        return None
    import torch

    from toolkit.engines.gpu.nvjpeg import NvjpegDecoder

    return NvjpegDecoder(torch.device("cuda"))


def writers_at_once(writer: SceneWriter, job: RunJob, scenes: int) -> list[SceneWriter]:
    """As many as the job asks for and there are scenes, of sessions that can run beside each other.

    Raises InputError for a session that cannot.
    """
    if not isinstance(writer.session, SharedSession):
        raise InputError(
            f"--scenes-at-once is of no use with --session {job.session}, which runs one at a time; use --workers"
        )
    with step("prepare scenes at once"):
        sessions = writer.session.beside(min(job.scenes_at_once, scenes))
    return [replace(writer, session=session) for session in sessions]


def helpers_by_default(frames: int) -> int:
    """Half of the cores, up to what the fastest network needs, and none that have little to do or share its cores."""
    cores = len(os.sched_getaffinity(0))
    return 0 if cores <= 2 else min(cores // 2, MOST_HELPERS, frames // FRAMES_A_HELPER)


def helpers_each(processes: int) -> int:
    """Of each of several processes that share the cores."""
    return min(len(os.sched_getaffinity(0)) // (2 * processes), MOST_HELPERS)


def gpus_here() -> int:
    """How many torch sees."""
    import torch

    return torch.cuda.device_count()


def threads_each(workers: int) -> int | None:
    """Threads for each of several workers, together one a core; for a single one whatever its session prefers."""
    return None if workers == 1 else max(1, len(os.sched_getaffinity(0)) // workers)
