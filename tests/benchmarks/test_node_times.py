"""How a profile of ONNX Runtime is read."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.node_times import least
from toolkit.engines.onnxruntime_profile import OTHER


def event(name: str, start: int, duration: int, op: str = "") -> dict[str, Any]:
    """One of the profiler, in microseconds; a node if it has an operator."""
    return {"cat": "Node" if op else "Session", "name": name, "ts": start, "dur": duration, "args": {"op_name": op}}


def test_the_least_time_of_each_node_but_in_the_first_run() -> None:
    events = [event("session_initialization", 0, 9000)]
    for start, first, second in ((10_000, 100, 10), (20_000, 4000, 700), (30_000, 3000, 900)):
        events += [
            event("model_run", start, 5000 + first),
            event("eye/conv_kernel_time", start + 10, first, "Conv"),
            event("Reorder_kernel_time", start + 5000, second, "Conv"),
            event("eye/conv_fence_before", start + 1, 1, "Conv"),
        ]
    times = least(events, {"eye"})
    assert times.frame == 8.0
    assert times.submodules == pytest.approx({"eye": 3.0, OTHER: 0.7})
    assert times.operators == pytest.approx({"Conv": 3.7})
