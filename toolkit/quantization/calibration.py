"""What values the tensors of a bundle's model take over a drive, with its state fed back as in use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from toolkit.bundle import Bundle
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.errors import CheckFailed
from toolkit.quantization.histogram import Histogram
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.text import quoted


@dataclass(frozen=True)
class RowsInUse:
    """The least and the most valid rows of a table of the state, called as its `count`, of `capacity`."""

    count: str
    least: int
    most: int
    capacity: int


@dataclass(frozen=True, eq=False)
class Collected:
    """What `frames` frames showed: a histogram of each tensor by its name, and how full the state's tables were."""

    frames: int
    histograms: Mapping[str, Histogram]
    rows: tuple[RowsInUse, ...]


class Collector:
    """Stands between a runner and a session: counts the values of `tensors`, and passes on what the bundle gives.

    What it counts is dropped before the next frame: no more is held than one frame's tensors and the histograms. `rows`
    has the `StateTable.count` of each frame.
    """

    def __init__(self, bundle: Bundle, tensors: Sequence[str], threads: int | None) -> None:
        self._results = {spec.name for spec in bundle.results}
        known = {spec.name for spec in (*bundle.frame_inputs, *bundle.state_inputs)} | self._results
        session = OnnxRuntimeSession(bundle, shown=[name for name in tensors if name not in known], threads=threads)
        self.name = session.name
        self.upload, self.download, self.finite = session.upload, session.download, session.finite
        self.histograms = {name: Histogram() for name in tensors}
        self.rows: dict[str, list[int]] = {table.count: [] for table in bundle.tables}
        self._session = session

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """One frame. Raises CheckFailed for a tensor that is not finite: no range is its."""
        outputs = self._session.run(inputs)
        for name, histogram in self.histograms.items():
            try:
                histogram.add(inputs[name] if name in inputs else outputs[name])
            except ValueError as error:
                raise CheckFailed(f"tensor {quoted(name)} {error} in FP32; `verify` the bundle") from error
        for name, counts in self.rows.items():
            counts.append(int(inputs[name].item()))
        return {name: array for name, array in outputs.items() if name in self._results}


def collect(
    bundle: Bundle,
    tensors: Sequence[str],
    frames: Iterable[Mapping[str, np.ndarray]],
    *,
    threads: int | None = None,
) -> Collected:
    """Run frames through the bundle's model in ONNX Runtime, state fed back, and count the values of `tensors`.

    `tensors` are names of floats in the model. Raises InputError if ONNX Runtime cannot show one, CheckFailed for
    values that are not finite.
    """
    collector = Collector(bundle, tensors, threads)
    runner = TemporalRunner(bundle, collector)
    count = 0
    for frame in frames:
        runner.step(frame)
        count += 1
    sizes = bundle.config.dimensions()
    rows = tuple(
        RowsInUse(table.count, min(counts), max(counts), sizes[table.rows])
        for table in bundle.tables
        if (counts := collector.rows[table.count])
    )
    return Collected(count, collector.histograms, rows)
