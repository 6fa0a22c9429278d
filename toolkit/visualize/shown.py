"""What is shown of a drive: each result with the frame it is of, and the ground truth, as far as they are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.config.model import ModelConfig
from toolkit.data.annotations import Annotation
from toolkit.data.frames import Frame
from toolkit.errors import InputError
from toolkit.runtime.results import FrameResult
from toolkit.visualize.between import motion_between
from toolkit.visualize.birds_eye import Layer
from toolkit.visualize.canvas import Picture
from toolkit.visualize.frame_picture import draw_between, draw_frame, draw_result, write_picture
from toolkit.visualize.rerun_log import RerunLog

_SAME_SECONDS = 1e-3


@dataclass(frozen=True, eq=False)
class Shown:
    """One moment. Without a frame there are no camera pictures."""

    result: FrameResult
    frame: Frame | None = None
    annotations: Sequence[Annotation] = ()


def with_frames(
    results: Iterable[FrameResult], frames: Mapping[str, Frame], truth: Mapping[str, Sequence[Annotation]]
) -> Iterator[Shown]:
    """Each result with the frame and the ground truth of its name, if there are any."""
    for result in results:
        yield Shown(result, frames.get(result.frame), truth.get(result.frame, ()))


def likely(results: Iterable[FrameResult], min_score: float) -> Iterator[FrameResult]:
    """The results with the objects that have at least this score."""
    for result in results:
        yield replace(result, boxes=tuple(box for box in result.boxes if box.score >= min_score))


def check_same_frames(results: Iterable[FrameResult], frames: Mapping[str, Frame], address: str) -> None:
    """Raise InputError unless every result is of the frame of its name: the same scene, time and command."""
    remedy = "give the frames that the results were made of"
    for result in results:
        frame = frames.get(result.frame)
        if frame is None:
            raise InputError(f"there is no frame {result.frame}, of which there is a result, in {address}; {remedy}")
        found, wanted = ((x.scene, x.timestamp, x.command.name.lower()) for x in (frame, result))
        if (found[0], found[2]) != (wanted[0], wanted[2]) or abs(found[1] - wanted[1]) > _SAME_SECONDS:
            raise InputError(
                f"frame {result.frame}: the result is of {_moment(*wanted)}, and "
                f"{address} has {_moment(*found)}; {remedy}"
            )


def draw_shown(
    moments: Iterable[Shown],
    config: ModelConfig,
    folder: Path,
    recording: RerunLog | None = None,
    layers: Sequence[Layer] = (),
    steps: int = 1,
) -> Iterator[Picture]:
    """Draw each moment when it is asked for, as NAME.jpg with cameras or NAME.png without, and give the picture.

    With frames, `steps` pictures are given from one moment of a scene to the next: what lies between is not written.
    `layers` are drawn on the view from above. A Rerun `recording` gets each moment too. Raises InputError if an image
    cannot be read or a picture not be written.
    """
    last: tuple[Shown, Picture] | None = None
    for shown in moments:
        if last is not None:
            yield from _between(*last, shown, layers, steps)
        result, frame, truth = shown.result, shown.frame, shown.annotations
        if frame is None:
            picture = draw_result(result, truth, layers)
            write_picture(picture, folder / f"{result.frame}.png")
        else:
            picture = draw_frame(result, frame, config, truth, layers)
            write_picture(picture, folder / f"{result.frame}.jpg")
        if recording is not None:
            recording.log(result, frame, truth)
        yield picture
        last = shown, picture


def _between(
    shown: Shown, picture: Picture, following: Shown, layers: Sequence[Layer], steps: int
) -> Iterator[Picture]:
    """The pictures on the way from a moment to the following one of its scene."""
    before, after = shown.frame, following.frame
    if before is None or after is None or before.scene != after.scene:
        return
    for step in range(1, steps):
        share = step / steps
        since = motion_between(before, after, share)
        yield draw_between(picture, shown.result, since, share * (after.timestamp - before.timestamp), layers)


def _moment(scene: str, seconds: float, command: str) -> str:
    return f"scene {scene} at {seconds:.3f} s with command {command}"
