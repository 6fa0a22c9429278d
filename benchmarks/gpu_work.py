"""What a GPU does during one call: kernels, and the time in which it is not idle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from toolkit.engines.session import Session

Result = TypeVar("Result")
COPIES = ("Memcpy", "Memset")


@dataclass(frozen=True)
class GpuWork:
    """Kernels and copies of one call, and the milliseconds in which at least one of them ran."""

    kernels: int
    copies: int
    busy_milliseconds: float


class ProfiledSession:
    """A session of which every run is looked at; `works` has what each of them did."""

    def __init__(self, session: Session) -> None:
        self.name = session.name
        self.upload: Callable[[np.ndarray], Any] = session.upload
        self.download: Callable[[Any], np.ndarray] = session.download
        self.finite: Callable[[Iterable[Any]], bool] = session.finite
        self.works: list[GpuWork] = []
        self._session = session

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        outputs, work = profiled(lambda: self._session.run(inputs))
        self.works.append(work)
        return outputs


def profiled(call: Callable[[], Result]) -> tuple[Result, GpuWork]:
    """The result of a call, and what torch's profiler saw of it."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        result = call()
        torch.cuda.synchronize()
    events = [e for e in profiler.events() or () if e.device_type.name == "CUDA" and not e.is_user_annotation]
    copies = sum(event.name.startswith(COPIES) for event in events)
    busy = covered([(event.time_range.start, event.time_range.end) for event in events])
    return result, GpuWork(len(events) - copies, copies, busy / 1e3)


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals: work on several streams at once counts once."""
    total, last = 0.0, -float("inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, last))
        last = max(last, end)
    return total
