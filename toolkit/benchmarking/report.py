"""A benchmark as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from rich.text import Text

from toolkit.benchmarking.measure import WARM_UP, Benchmark, Timing
from toolkit.storage.claims import FileOutput
from toolkit.storage.outputs import new_file
from toolkit.text import shown

_GIB = 2**30


def timing_table(result: Benchmark, precision: str) -> Table:
    """Milliseconds by stage, of a session in some `precision`; parts are indented below what they are part of."""
    rows = [(timing, timing.milliseconds) for timing in result.timings]
    title = f"{result.session}, {precision}: milliseconds a frame"
    table = Table("stage", *(("share", *rows[0][1]) if rows else ()), title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    parents = {timing.name: timing.part_of for timing in result.timings}
    whole = rows[-1][1]["mean"]
    for timing, values in rows:
        numbers = (f"{value:,.2f}" for value in values.values())
        table.add_row(
            Text("  " * _depth(timing, parents) + shown(timing.name)), f"{values['mean'] / whole:.1%}", *numbers
        )
    return table


def facts(result: Benchmark) -> dict[str, str]:
    """What the table leaves out, by what it is."""
    memory = {"peak memory": f"{result.memory.resident / _GIB:.2f} GiB"}
    if result.memory.gpu is not None:
        memory["peak GPU memory"] = f"{result.memory.gpu / _GIB:.2f} GiB"
    return {
        "frames": f"{result.frames}, after {WARM_UP} to warm up",
        "frames per second": f"{result.frames_per_second:.3g}",
        **memory,
        **result.environment,
    }


def write_json(result: Benchmark, precision: str, command: str, output: FileOutput | Path) -> None:
    """Everything, with the `precision` of the session and the `command` that measured it.

    Raises InputError if the file cannot be written.
    """
    values = {
        "command": command,
        "bundle": result.bundle,
        "session": result.session,
        "precision": precision,
        "frames": result.frames,
        "warm_up_frames": WARM_UP,
        "frames_per_second": result.frames_per_second,
        "peak_bytes": asdict(result.memory),
        "milliseconds": [
            {"stage": timing.name, "part_of": timing.part_of, **timing.milliseconds} for timing in result.timings
        ],
        "environment": dict(result.environment),
    }
    with new_file(output) as work:
        work.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _depth(timing: Timing, parents: Mapping[str, str | None]) -> int:
    depth, parent = 0, timing.part_of
    while parent is not None:
        depth, parent = depth + 1, parents[parent]
    return depth
