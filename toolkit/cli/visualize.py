"""`uniad-toolkit visualize`: results as pictures, a video, and a recording for Rerun."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.console import print_note, print_warning, print_written, progress, step
from toolkit.cli.plugin_command import PluginCommand
from toolkit.cli.sessions import DEFAULT_SESSION, PrecisionOption, SessionOption, open_session
from toolkit.errors import CheckFailed, InputError
from toolkit.hookspecs import hookimpl
from toolkit.precision import Precision
from toolkit.storage.claims import FileOutput, FolderOutput, Output, claim_file, claim_folder, keep_apart

if TYPE_CHECKING:
    from toolkit.config.model import ModelConfig
    from toolkit.data.frames import Frame
    from toolkit.plugin.manager import PluginManager
    from toolkit.runtime.results import FrameResult


@dataclass(frozen=True)
class Drive:
    """Results, one after another, and what is known before: the frames they are of, and each one's scene and time."""

    config: ModelConfig
    results: Iterable[FrameResult]
    frames: Sequence[Frame]
    times: Sequence[tuple[str, float]]


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `visualize`."""
    app.command("visualize", cls=PluginCommand)(visualize_command)


def visualize_command(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="RESULTS|BUNDLE", help="What `run` wrote, or a bundle to run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write the pictures into.")],
    frames: Annotated[
        str | None, typer.Option(help="The frames of the results, or those to run a bundle on: {addresses}.")
    ] = None,
    session: SessionOption = DEFAULT_SESSION,
    precision: PrecisionOption = Precision.FP32,
    ground_truth: Annotated[bool, typer.Option(help="Draw the annotations of nuscenes:… frames, dashed.")] = True,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Leave out objects of a lower score.")] = 0.0,
    video: Annotated[Path | None, typer.Option(help="Write a video too, .mp4 or .gif.")] = None,
    key_frames_only: Annotated[
        bool, typer.Option("--key-frames-only", help="Show no moments between frames in the video.")
    ] = False,
    rerun: Annotated[Path | None, typer.Option(help="Write a recording for the Rerun viewer too, .rrd.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output folder.")] = False,
) -> None:
    """Draw every frame: the cameras and the view from above, 1920x1080; without --frames the view from above alone.

    Example: [bold]uniad-toolkit visualize results --frames frames -o pictures --video drive.mp4[/] or
    [bold]uniad-toolkit visualize bundle --frames frames -o pictures[/]
    """
    from rich.progress import track

    from toolkit.bundle import MANIFEST
    from toolkit.data.sources import address_paths, image_files, open_annotations
    from toolkit.storage.outputs import new_folder
    from toolkit.visualize.rerun_log import check_rerun, rerun_recording
    from toolkit.visualize.shown import draw_shown, likely, with_frames
    from toolkit.visualize.video import frame_rate, smooth_steps, video_path, write_video

    inputs = [source, *address_paths(frames), *context.obj.files]
    target = claim_folder(output, "pictures", force=force, inputs=inputs)
    film = recording = None
    if video is not None:
        video = video_path(video, print_warning)
        film = _claim(video, target, inputs, None)
    if rerun is not None:
        recording = _claim(rerun, target, inputs, film)
        check_rerun(rerun)
    left_out: list[str] = []
    further: set[str] = set()
    layers = [s.draw for s in context.obj.submodules() if s.draw is not None]
    if (source / MANIFEST).is_file():
        drive = _run(source, frames, session, precision, context.obj, left_out)
    else:
        drive = _read(source, frames, context.obj)
    for claimed in (target, film, recording):
        if isinstance(claimed, Output):
            keep_apart(claimed, image_files(drive.frames))
    sources = context.obj.frame_sources()
    truth = open_annotations(frames, drive.frames, sources) if frames is not None and ground_truth else {}
    with new_folder(target) as folder, ExitStack() as stack:
        log = None if recording is None else stack.enter_context(rerun_recording(_within(folder, recording)))
        results = likely(_noting(drive.results, further), min_score)
        moments = with_frames(results, {frame.name: frame for frame in drive.frames}, truth)
        shown = track(
            moments, "draw", total=len(drive.times), console=progress, transient=True, disable=not progress.is_terminal
        )
        rate = frame_rate(drive.times)
        steps = smooth_steps(rate) if film is not None and drive.frames and not key_frames_only else 1
        pictures = draw_shown(shown, drive.config, folder, log, layers, steps)
        if film is not None:
            write_video(pictures, _within(folder, film), rate * steps)
        else:
            for _ in pictures:
                pass
    print_written(output, f"{len(drive.times) - len(left_out)} pictures")
    if further:
        print_note(f"results that no submodule interprets: {', '.join(sorted(further))}")
    if video is not None:
        print_written(video, "video")
    if rerun is not None:
        print_written(rerun, "recording, to be opened with `rerun`")
    if left_out:
        raise CheckFailed(
            f"{len(left_out)} of {len(drive.times)} frames have results that are not finite, first {left_out[0]}; "
            "`verify` the bundle"
        )


def _read(folder: Path, address: str | None, plugins: PluginManager) -> Drive:
    """What `run` wrote. All of it is read once before anything is drawn, so that errors come first."""
    from toolkit.config.model import ModelConfig
    from toolkit.runtime.result_reader import open_results
    from toolkit.visualize.shown import check_same_frames

    config = ModelConfig()
    results = open_results(folder)
    with step("read results"):
        times = [(result.scene, result.timestamp) for result in results]
    if address is None:
        return Drive(config, results, (), times)
    frames = _open(address, config, plugins)
    check_same_frames(results, {frame.name: frame for frame in frames}, address)
    return Drive(config, results, frames, times)


def _run(
    bundle: Path,
    address: str | None,
    session: str,
    precision: Precision,
    plugins: PluginManager,
    left_out: list[str],
) -> Drive:
    """A bundle's results of the frames at an address, each made when it is asked for."""
    from toolkit.bundle import Bundle
    from toolkit.data.ego_motion import warn_of_other_rotation
    from toolkit.runtime.sequence import run_sequence

    if address is None:
        raise InputError(f"{bundle} is a bundle; say with --frames what to run it on, or give the results of a run")
    opened = Bundle.read(bundle, print_warning)
    frames = _open(address, opened.config, plugins)
    warn_of_other_rotation(frames, opened.config.can_bus_rotation, print_warning)
    with step(f"load the {session} session"):
        engine = open_session(opened, session, plugins, precision=precision)
    results = _finite(run_sequence(opened, engine, plugins.submodules(), frames), left_out)
    return Drive(opened.config, results, frames, [(frame.scene, frame.timestamp) for frame in frames])


def _open(address: str, config: ModelConfig, plugins: PluginManager) -> list[Frame]:
    from toolkit.data.sources import open_frames

    with step("read frames"):
        return list(open_frames(address, config.image, plugins.frame_sources(), print_warning))


def _finite(results: Iterable[FrameResult], left_out: list[str]) -> Iterator[FrameResult]:
    """The results without those that hold values that are not finite; their names are put into `left_out`."""
    from toolkit.runtime.result_writer import require_finite

    for result in results:
        try:
            require_finite(result)
        except CheckFailed as failure:
            print_warning(f"{failure}; left out")
            left_out.append(result.frame)
        else:
            yield result


def _noting(results: Iterable[FrameResult], further: set[str]) -> Iterator[FrameResult]:
    """The results as they come; the names of those that nobody interprets are added to `further`."""
    for result in results:
        further.update(result.further)
        yield result


def _claim(
    path: Path, pictures: FolderOutput, inputs: Sequence[Path], other: FileOutput | Path | None
) -> FileOutput | Path:
    """The claim of a file, or its place in the folder of pictures if it is to be there."""
    place = Path(os.path.realpath(path))
    if pictures.path in place.parents:
        return place.relative_to(pictures.path)
    return claim_file(path, inputs=inputs, others=[pictures, other if isinstance(other, FileOutput) else None])


def _within(folder: Path, file: FileOutput | Path) -> FileOutput | Path:
    """Where to write a file while the folder of pictures has the temporary name `folder`."""
    return file if isinstance(file, FileOutput) else folder / file
