"""Time of one launch on a GPU, as a CUDA graph replays it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

CACHE_BYTES = 100e6
"""Inputs in rotation hold at least this much: twice the L2 cache of an H100."""

MOST_SETS = 100
LAUNCHES = 40
"""In a graph, or more where there are more sets."""


def sets_of(make: Callable[[], tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    """So many different inputs of a call that none stays in the cache between its uses."""
    first = make()
    size = sum(x.nbytes for x in first)
    count = min(MOST_SETS, 2 + int(CACHE_BYTES / size))
    return [first, *(make() for _ in range(count - 1))]


def microseconds(call: Callable[..., object], sets: Sequence[tuple[Tensor, ...]], launches: int = LAUNCHES) -> float:
    """Median time of one call with one of the sets, all of them in turn in one graph of about so many launches."""
    call(*sets[0])
    graph, rounds = torch.cuda.CUDAGraph(), max(1, launches // len(sets))
    kept = []  # outputs must not take each other's memory, which would then be in the cache
    with torch.cuda.graph(graph):
        for _ in range(rounds):
            kept += [call(*inputs) for inputs in sets]
    times = []
    for _ in range(25):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1000 * start.elapsed_time(end) / len(kept))
    return float(statistics.median(times[5:]))


def launch_latency() -> float:
    """Time of a kernel that does nothing."""
    import cupy

    nothing = cupy.RawKernel('extern "C" __global__ void nothing() {}', "nothing")

    def call() -> None:
        with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
            nothing((1,), (32,), ())

    return microseconds(call, [()])
