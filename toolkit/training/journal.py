"""What a run writes down of its steps: a line of JSON for each, and a picture of the curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.storage.outputs import new_file

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
        kept = [line for line in read_lines(self.path) if line["step"] <= steps]
        with new_file(self.path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def write(self, record: StepRecord) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")

    def draw(self) -> None:
        """Draw the curves of all steps until now."""
        lines = read_lines(self.path)
        if lines:
            with new_file(self.path.with_name(CURVES_FILE)) as temporary:
                draw_curves(lines, temporary)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The steps of a log; none if there is no log. A last line that was cut is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def draw_curves(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The total, and the sums of the losses of each submodule, by step, on logarithmic axes."""
    from matplotlib.figure import Figure

    curves = grouped(lines)
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


def grouped(lines: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[float], list[float]]]:
    """Steps and values of the total, and of what the names of losses begin with."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for line in lines:
        sums: dict[str, float] = {"total": line["total"]}
        for name, value in line["losses"].items():
            if "loss" in name:
                group = name.partition(".")[0]
                sums[group] = sums.get(group, 0.0) + value
        for name, value in sums.items():
            steps, values = curves.setdefault(name, ([], []))
            steps.append(line["step"])
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
