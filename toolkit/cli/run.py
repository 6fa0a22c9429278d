"""`uniad-toolkit run`: frames through a bundle, to JSON and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolkit.cli.console import plain, print_note, print_warning, print_written, progress, step
from toolkit.cli.refinements import RefinementCommand, asked_refinements
from toolkit.cli.sessions import (
    DEFAULT_SESSION,
    PrecisionOption,
    SessionOption,
    require_precision,
    session_kind,
    used_precision,
)
from toolkit.data.decoder import Decoder
from toolkit.errors import CheckFailed, InputError
from toolkit.hookspecs import hookimpl
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.storage.claims import FolderOutput, claim_folder, keep_apart

if TYPE_CHECKING:
    from toolkit.batch.scenes import Scene
    from toolkit.bundle import Bundle
    from toolkit.cli.run_job import RunJob
    from toolkit.config.model import TrackingConfig
    from toolkit.runtime.run_record import FrameRecord, RunRecord

ClusterOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Ray cluster that runs a scene a task: auto, HOST:PORT, ray://HOST:PORT; local: one here, of --workers.",
    ),
]

DecoderOption = Annotated[
    Decoder, typer.Option(help="What decodes pictures; nvjpeg does on a CUDA GPU, with pixels that differ a little.")
]


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `run`."""
    app.command("run", cls=RefinementCommand)(run_command)


def run_command(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    frames: Annotated[str, typer.Argument(help="Where frames come from: {addresses}.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    session: SessionOption = DEFAULT_SESSION,
    precision: PrecisionOption = Precision.FP32,
    first_frame: Annotated[
        Literal["evaluation", "training"],
        typer.Option(metavar="MODE", help="Ego motion at a scene's start, as in UniAD's evaluation or training."),
    ] = "evaluation",
    workers: Annotated[
        int,
        typer.Option(
            min=1, max=1024, metavar="N", help="Processes that run a scene each, with a session of their own."
        ),
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, metavar="N", help="CPU threads of a session; by default workers share the cores."
        ),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="INDEX/COUNT: every COUNT-th scene from scene INDEX on, such as 0/4 of four.")
    ] = None,
    cluster: ClusterOption = None,
    helpers: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=64,
            metavar="N",
            help="Threads that decode ahead, and processes that post-process, write and draw; 0: all in turn. "
            "By default half of the cores, 8 at most, one for 8 frames, none on two cores.",
        ),
    ] = None,
    decoder: DecoderOption = Decoder.OPENCV,
    scenes_at_once: Annotated[
        int,
        typer.Option(min=1, max=64, metavar="N", help="Scenes that one process runs at a time, on one GPU."),
    ] = 1,
    gpus: Annotated[
        int,
        typer.Option(
            min=1, max=64, metavar="N", help="GPUs, each of which runs every so many-th scene in a process of its own."
        ),
    ] = 1,
    pictures: Annotated[bool, typer.Option(help="Draw a bird's-eye picture of every frame.")] = True,
    resume: Annotated[
        Path | None, typer.Option(help="What a run like this left when it failed: its whole scenes are not run again.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output folder.")] = False,
) -> None:
    """Run frames with state fed back: one JSON a frame, its masks beside it as npz, and a bird's-eye picture.

    run.jsonl says how long each stage of each frame took, for the `report`.

    A frame whose results are not finite is left out; the rest are written, and the exit status is 1.

    Scenes have nothing to do with each other: --workers runs several at once, --cluster gives them to a Ray cluster,
    and --shard runs a part of them, all with the same results (docs/many-scenes.md).

    Example: [bold]uniad-toolkit run bundle frames -o results[/] or
    [bold]uniad-toolkit run bundle 'nuscenes:data/nuscenes?version=v1.0-mini&split=mini_val' -o results[/]
    """
    from toolkit.batch.cluster import require_cluster
    from toolkit.batch.scenes import Shard
    from toolkit.bundle import Bundle
    from toolkit.cli.run_job import RunJob, threads_each
    from toolkit.data.sources import address_paths
    from toolkit.storage.outputs import new_folder

    plugins: PluginManager = context.obj
    inputs = [bundle, resume, *address_paths(frames), *plugins.files]
    target = claim_folder(output, "results", force=force, inputs=inputs)
    require_precision(precision, (session,), plugins)  # before workers start
    if helpers and (workers > 1 or cluster is not None):
        raise InputError(
            f"--helpers {helpers} is of no use with --workers or --cluster, which run scenes side by side instead; "
            "leave it out"
        )
    if scenes_at_once > 1 and (workers > 1 or cluster is not None):
        raise InputError(
            f"--scenes-at-once {scenes_at_once} and --workers or --cluster are two ways for the same; use one of them"
        )
    if gpus > 1 and (workers > 1 or cluster is not None):
        raise InputError(f"--gpus {gpus} and --workers or --cluster are two ways for the same; use one of them")
    if gpus > 1 and not session_kind(plugins, session).gpus:
        raise InputError(f"--gpus {gpus} is of no use with --session {session}, which runs on none; use --workers")
    if cluster is not None:
        require_cluster(cluster, workers)
    chosen = Shard.parse(shard) if shard is not None else Shard(0, 1)
    opened = Bundle.read(bundle, print_warning)
    scenes = chosen.of(read_scenes(opened, frames, plugins, target))
    workers = max(1, min(workers, len(scenes)))
    with new_folder(target) as folder:
        job = RunJob(
            bundle,
            session,
            precision,
            first_frame,
            pictures,
            folder,
            plugin_files=tuple(plugins.files),
            disabled_plugins=plugins.disabled,
            threads=threads or threads_each(workers),
            refinements=asked_refinements(context),
            helpers=helpers,
            decoder=decoder,
            scenes_at_once=scenes_at_once,
            gpus=gpus,
        )
        record = run_scenes(job, opened, plugins, scenes, target, workers, cluster, resume)
    print_written(output, f"{len(record.frames) - len(record.left_out)} frames")
    require_finite_results(record)


def read_scenes(bundle: Bundle, address: str, plugins: PluginManager, output: FolderOutput) -> list[Scene]:
    """The scenes of the frames at an address, whose pictures are no part of an output. Raises InputError."""
    from toolkit.batch.scenes import split_scenes
    from toolkit.data.ego_motion import warn_of_other_rotation
    from toolkit.data.sources import image_files, open_frames

    with step("read frames"):
        frames = list(open_frames(address, bundle.config.image, plugins.frame_sources(), print_warning))
    warn_of_other_rotation(frames, bundle.config.can_bus_rotation, print_warning)
    keep_apart(output, image_files(frames))
    return list(split_scenes(frames))


def run_scenes(
    job: RunJob,
    bundle: Bundle,
    plugins: PluginManager,
    scenes: Sequence[Scene],
    output: FolderOutput,
    workers: int,
    cluster: str | None = None,
    resume: Path | None = None,
) -> RunRecord:
    """Write the results of scenes into the job's folder, and what became of each frame; a line is printed for each.

    Scenes that an earlier run finished are taken from its folder `resume`. If that fails, what was finished becomes a
    folder beside `output`, in which the job's folder lies.
    """
    from toolkit.batch.resumed import FinishedScenes, in_scene_order
    from toolkit.cli.kept_results import keep_finished
    from toolkit.cli.run_job import run_records
    from toolkit.runtime.run_record import RunRecord

    precision = used_precision(bundle, job.session, job.precision, plugins)
    frames: list[FrameRecord] = []

    def record() -> RunRecord:
        return RunRecord(
            bundle.identity,
            job.session,
            tuple(frames),
            precision,
            job.refinements,
            job.decoder.value,
            job.first_frame,
        )

    finished = None
    if resume is not None:
        with step("look at finished scenes"):
            finished = FinishedScenes.read(resume, record(), scenes, pictures=job.pictures)
    left = [scene for scene in scenes if finished is None or not finished.has(scene)]
    try:
        with run_records(job, plugins, left, workers, cluster) if left else nullcontext(()) as done:
            for frame in in_scene_order(scenes, finished, done, job.folder):
                frames.append(frame)
                print_record(frame, bundle.config.tracking)
    except Exception:
        kept = keep_finished(record(), job.folder, output)
        if kept is not None:
            print_note(f"what was finished before the error is kept, {len(frames)} frames: {kept}")
        raise
    whole = record()
    whole.write(job.folder)
    return whole


def require_finite_results(record: RunRecord) -> None:
    """Raise CheckFailed if frames were left out."""
    if record.left_out:
        raise CheckFailed(
            f"{len(record.left_out)} of {len(record.frames)} frames have results that are not finite, first "
            f"{record.left_out[0]}; `verify` the bundle"
        )


def print_record(record: FrameRecord, sizes: TrackingConfig) -> None:
    """One line about a frame, and a warning if it was left out."""
    if record.left_out:
        print_warning(f"frame {record.frame}: the network's results hold values that are not finite; left out")
    progress.print(
        f"  [dim]{sum(record.seconds.values()):6.1f} s[/]  {plain(record.frame)}: {record.boxes} boxes"
        + "".join(f", [yellow]{plain(line)}[/]" for line in beyond_capacity(record, sizes))
        + (f", [yellow]{plain(record.repairs)}[/]" if record.repairs else ""),
        soft_wrap=True,
    )


def beyond_capacity(record: FrameRecord, sizes: TrackingConfig) -> list[str]:
    """What a frame had more of than the bundle holds, with the size and the option of `convert` that raises it."""
    dropped = {
        f"tracks beyond the capacity of {sizes.track_capacity} rows (convert --track-capacity)": record.dropped_tracks,
        f"agents beyond the capacity of {sizes.agent_capacity} (convert --agent-capacity)": record.dropped_agents,
    }
    return [f"{count} {what}" for what, count in dropped.items() if count]
