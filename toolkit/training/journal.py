"""What a run writes down of its steps: a line of JSON for each, and a picture of the curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from toolkit.storage.outputs import new_file
from toolkit.training.spec import is_trained

LOG_FILE, CURVES_FILE = "log.jsonl", "losses.png"
MAX_PANELS = 8
SMOOTHED = 50
"""Points to which a curve is averaged."""


@dataclass(frozen=True)
class StepRecord:
    """One step of the optimiser. `seconds` are those of the step, of which it `waited` for data."""

    epoch: int
    step: int
    learning_rate: float
    total: float
    gradient_norm: float
    seconds: float
    waited: float
    losses: Mapping[str, float]


class Journal:
    """The log of a run's folder; one that goes on keeps the lines of the steps that it goes on from."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.path = folder / LOG_FILE
        kept = [record for record in read_records(self.path) if record.step <= steps]
        with new_file(self.path) as temporary:
            temporary.write_text("".join(map(as_line, kept)), encoding="utf-8")

    def write(self, record: StepRecord) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(as_line(record))

    def draw(self) -> None:
        """Draw the curves of all steps until now."""
        records = read_records(self.path)
        if records:
            with new_file(self.path.with_name(CURVES_FILE)) as temporary:
                draw_curves(records, temporary)


def as_line(record: StepRecord) -> str:
    return json.dumps(asdict(record)) + "\n"


def read_records(path: Path) -> list[StepRecord]:
    """The steps of a log; none if there is no log. A line that is no whole step, such as one cut, is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        # Python's JSON, unlike msgspec's, knows NaN and infinity.
        with suppress(ValueError, OverflowError, RecursionError, msgspec.ValidationError):
            records.append(msgspec.convert(json.loads(line), StepRecord))
    return records


def draw_curves(records: Sequence[StepRecord], path: Path) -> None:
    """The total, and the sums of the losses of each submodule, by step, on logarithmic axes."""
    from matplotlib.figure import Figure

    curves = grouped(records)
    names = list(curves)[:MAX_PANELS]
    figure = Figure(figsize=(10, 2.6 * -(-len(names) // 2)), layout="constrained")
    for number, name in enumerate(names, 1):
        axes = figure.add_subplot(-(-len(names) // 2), 2, number)
        steps, values = smoothed(*curves[name])
        axes.plot(steps, values)
        if min(values) > 0:
            axes.set_yscale("log")
        axes.set_title(name)
        axes.set_xlabel("step")
        axes.grid(visible=True, which="both", alpha=0.3)
    figure.savefig(path, dpi=110)


def grouped(records: Sequence[StepRecord]) -> dict[str, tuple[list[float], list[float]]]:
    """Steps and values of the total, and of what the names of losses begin with."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for record in records:
        sums: dict[str, float] = {"total": record.total}
        for name, value in record.losses.items():
            if is_trained(name):
                group = name.partition(".")[0]
                sums[group] = sums.get(group, 0.0) + value
        for name, value in sums.items():
            steps, values = curves.setdefault(name, ([], []))
            steps.append(record.step)
            values.append(value)
    return curves


def smoothed(steps: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Means over equal stretches, so that a curve has about 50 points."""
    width = max(1, len(steps) // SMOOTHED)
    pieces = range(0, len(steps) - width + 1, width)
    return (
        [sum(steps[i : i + width]) / width for i in pieces],
        [sum(values[i : i + width]) / width for i in pieces],
    )
