"""What a run was, and what became of each of its frames: a file beside the results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from toolkit.data.decoder import Decoder
from toolkit.data.stage_clock import Stage
from toolkit.errors import InputError
from toolkit.runtime.results import FrameResult
from toolkit.storage.files import is_file_name
from toolkit.storage.json_file import parse_json, read_bytes, refusing
from toolkit.storage.outputs import new_file
from toolkit.storage.typed import Count, Duration, Misfit, Text, decode
from toolkit.text import quoted

RUN_RECORD = "run.jsonl"
"""First a line about the run, then one for each frame. No frame's results can have this name."""
MAX_BYTES = 2**26
"""A frame's line has some three hundred."""


@dataclass(frozen=True)
class FrameRecord:
    """What became of a frame. `seconds` are those of each stage; `left_out` frames had results that are not finite."""

    frame: str
    scene: str
    boxes: Count
    dropped_tracks: Count
    dropped_agents: Count
    repairs: str
    left_out: bool
    seconds: Mapping[Stage, Duration] = field(default_factory=dict)

    @classmethod
    def of_result(cls, result: FrameResult, seconds: Mapping[Stage, float], *, left_out: bool) -> FrameRecord:
        """The record of one result."""
        return cls(
            frame=result.frame,
            scene=result.scene,
            boxes=len(result.boxes),
            dropped_tracks=result.dropped_tracks,
            dropped_agents=result.dropped_agents,
            repairs=str(result.repairs) if result.repairs else "",
            left_out=left_out,
            seconds=seconds,
        )


@dataclass(frozen=True)
class RunRecord:
    """Which bundle ran (`Bundle.identity`), in what kind of session and what precision, and its frames in order.

    `refinements` are the options of those that changed the results; `decoder` made pixels of the pictures, and
    `first_frame` says what a scene's first ego motion is.
    """

    bundle: str
    session: str
    frames: tuple[FrameRecord, ...]
    precision: str = "fp32"
    refinements: tuple[str, ...] = ()
    decoder: str = Decoder.OPENCV.value
    first_frame: str = "evaluation"

    @property
    def left_out(self) -> tuple[str, ...]:
        """The frames without results."""
        return tuple(record.frame for record in self.frames if record.left_out)

    def write(self, folder: Path) -> None:
        """Write the record into a folder of results."""
        head = asdict(_Run(self.bundle, self.session, self.precision, self.refinements, self.decoder, self.first_frame))
        lines = [head, *(asdict(frame) for frame in self.frames)]
        with new_file(folder / RUN_RECORD) as work:
            work.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """The record in a folder of results. Raises InputError if there is none, or if it is damaged."""
        path = folder / RUN_RECORD
        if not path.is_file():
            raise InputError(f"{folder} holds no {RUN_RECORD}; give a folder that `uniad-toolkit run` wrote")
        lines = read_bytes(path, MAX_BYTES, "run the frames again").splitlines() or [b""]
        with refusing(path, "run the frames again"):
            head, *frames = [_parsed(line, number) for number, line in enumerate(lines, 1)]
            run = decode(_Run, head, root=_place(1))
            records = tuple(_frame(values, number) for number, values in enumerate(frames, 2))
        return cls(run.bundle, run.session, records, run.precision, run.refinements, run.decoder, run.first_frame)


@dataclass(frozen=True)
class _Run:
    """The first line. Earlier versions knew no refinements, one decoder, and did not say how scenes begin."""

    bundle: Text
    session: Text
    precision: Text
    refinements: tuple[Text, ...] = ()
    decoder: Text = Decoder.OPENCV.value
    first_frame: Text = "evaluation"


def _parsed(line: bytes, number: int) -> Any:
    try:
        return parse_json(line)
    except ValueError as error:
        raise Misfit(_place(number), f"is not valid JSON: {error}") from error


def _frame(values: Any, number: int) -> FrameRecord:
    record = decode(FrameRecord, values, root=_place(number))
    if not is_file_name(record.frame):
        raise Misfit(f"{_place(number)}.frame", f"expected the name of a frame, found {quoted(record.frame)}")
    return record


def _place(line: int) -> str:
    return f"line {line}: $"
