"""A run over frames: how long its stages took, what the frames look like, what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from toolkit.bundle import Bundle
from toolkit.data.stage_clock import Stage
from toolkit.errors import InputError
from toolkit.report.contents import Run, Table
from toolkit.report.latency_plot import latency_plot
from toolkit.report.pictures import frame_pictures
from toolkit.runtime.result_reader import read_result
from toolkit.runtime.run_record import FrameRecord, RunRecord

PERCENTILES = (50, 90, 99)


def describe_run(bundle: Bundle, results: Path) -> Run:
    """What `run` wrote into a folder. Raises InputError if it is of another bundle, missing or damaged."""
    record = RunRecord.read(results)
    if record.bundle != bundle.identity:
        raise InputError(f"{results} holds results of another bundle than {bundle.path}; run that, or leave them out")
    frames = record.frames
    totals = [sum(frame.seconds.values()) for frame in frames]
    return Run(
        facts={
            "session": ", ".join((record.session, record.precision, *record.refinements)),
            "decoder": record.decoder,
            "frames": str(len(frames)),
            "scenes": str(len({frame.scene for frame in frames})),
            "objects": f"{sum(frame.boxes for frame in frames)} reported in all frames",
            **_further_results(results, frames),
        },
        median_seconds=float(np.median(totals)) if totals else None,
        latency=_latency_table(frames, totals),
        plot=latency_plot([frame.seconds for frame in frames]) if frames else "",
        pictures=frame_pictures(results, frames),
        warnings=tuple(_warnings(frames)),
    )


def _further_results(results: Path, frames: Sequence[FrameRecord]) -> dict[str, str]:
    """The names of results that no submodule interprets, as the first frame has them."""
    written = next((path for frame in frames if (path := results / f"{frame.frame}.json").is_file()), None)
    further = read_result(written).further if written is not None else {}
    return {"results without interpretation": ", ".join(sorted(further))} if further else {}


def _latency_table(frames: Sequence[FrameRecord], totals: Sequence[float]) -> Table:
    """Milliseconds; a stage that a frame did not go through counts as none of its time."""
    rows = [
        _latency_row(stage, [frame.seconds.get(stage, 0.0) for frame in frames])
        for stage in Stage
        if any(stage in frame.seconds for frame in frames)
    ]
    if rows:
        rows.append(_latency_row("whole frame", totals))
    columns = ("stage", *(f"p{percentile}" for percentile in PERCENTILES), "mean", "largest")
    return Table("Milliseconds by stage", columns, tuple(rows), numeric=frozenset(range(1, len(columns))))


def _latency_row(name: str, seconds: Sequence[float]) -> tuple[str, ...]:
    milliseconds = 1000 * np.asarray(seconds)
    numbers = (*np.percentile(milliseconds, PERCENTILES), milliseconds.mean(), milliseconds.max())
    return name, *(f"{number:,.1f}" for number in numbers)


def _warnings(frames: Sequence[FrameRecord]) -> list[str]:
    """One line for each kind of trouble, with the first frame that has it."""
    kinds = {
        "have results that are not finite and were left out": [f for f in frames if f.left_out],
        "forgot tracks beyond the capacity of tracks": [f for f in frames if f.dropped_tracks],
        "have boxes without motion, beyond the capacity of agents": [f for f in frames if f.dropped_agents],
        "needed a repair of the state": [f for f in frames if f.repairs],
    }
    return [
        f"{len(found)} of {len(frames)} frames {what}, first {found[0].frame}"
        + (f" ({found[0].repairs})" if found[0].repairs else "")
        for what, found in kinds.items()
        if found
    ]
