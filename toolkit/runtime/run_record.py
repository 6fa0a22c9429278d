"""What a run was, and what became of each of its frames: a file beside the results."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from toolkit.data.fields import object_field, text_field
from toolkit.errors import InputError
from toolkit.outputs import new_file
from toolkit.regular_file import read_regular
from toolkit.runtime.results import FrameResult
from toolkit.stage_clock import Stage
from toolkit.text import one_line, quoted

RUN_RECORD = "run.jsonl"
"""First a line about the run, then one for each frame. No frame's results can have this name."""
MAX_BYTES = 2**26
"""A frame's line has some three hundred."""


@dataclass(frozen=True)
class FrameRecord:
    """What became of a frame. `seconds` are those of each stage; `left_out` frames had results that are not finite."""

    frame: str
    scene: str
    boxes: int
    dropped_tracks: int
    dropped_agents: int
    repairs: str
    left_out: bool
    seconds: Mapping[Stage, float] = field(default_factory=dict)

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
    """Which bundle ran (`Bundle.identity`), in what kind of session and what precision, and its frames in order."""

    bundle: str
    session: str
    frames: tuple[FrameRecord, ...]
    precision: str = "fp32"

    def write(self, folder: Path) -> None:
        """Write the record into a folder of results."""
        head = {"bundle": self.bundle, "session": self.session, "precision": self.precision}
        lines = [head, *(asdict(frame) for frame in self.frames)]
        with new_file(folder / RUN_RECORD) as work:
            work.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """The record in a folder of results. Raises InputError if there is none, or if it is damaged."""
        path = folder / RUN_RECORD
        if not path.is_file():
            raise InputError(f"{folder} holds no {RUN_RECORD}; give a folder that `uniad-toolkit run` wrote")
        try:
            head, *frames = [json.loads(line) for line in read_regular(path, MAX_BYTES).decode().splitlines()]
            run = object_field(head, f"{path}: line 1: ", ("bundle", "session", "precision"))
            return cls(
                bundle=text_field(run["bundle"], "bundle"),
                session=text_field(run["session"], "session"),
                frames=tuple(_frame(values) for values in frames),
                precision=text_field(run["precision"], "precision"),
            )
        except (
            OSError,
            InputError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            ArithmeticError,
            RecursionError,
        ) as error:
            raise InputError(f"{path} is damaged: {one_line(error)}; run the frames again") from error


def _frame(values: Any) -> FrameRecord:
    frame = str(values["frame"])
    if Path(frame).name != frame:
        raise ValueError(f"{quoted(frame)} is no name of a frame")
    seconds = {Stage(stage): float(time) for stage, time in values["seconds"].items()}
    if not all(0 <= time < math.inf for time in seconds.values()):
        raise ValueError("a time is not a number of seconds")
    return FrameRecord(
        frame=frame,
        scene=str(values["scene"]),
        boxes=int(values["boxes"]),
        dropped_tracks=int(values["dropped_tracks"]),
        dropped_agents=int(values["dropped_agents"]),
        repairs=str(values["repairs"]),
        left_out=bool(values["left_out"]),
        seconds=seconds,
    )
