"""The network by its rewritten parts, compiled for a GPU."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from toolkit.engines.gpu.compiled.branches import cost
from toolkit.engines.gpu.compiled.counters import renew_counters
from toolkit.engines.gpu.compiled.failures import compiling
from toolkit.engines.gpu.compiled.fused import FusedPart
from toolkit.engines.gpu.compiled.rewrite import RewrittenPart, rewrite_network, rewrite_submodule
from toolkit.engines.gpu.compiled.tf32 import tf32
from toolkit.network import Network
from toolkit.precision import Precision
from toolkit.specs import Submodule
from toolkit.wiring import NetworkGraph

NetworkFunction = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
FIRST, LATER = -1, 0
"""Priorities of streams."""
URGENT = 0.9
"""Of the longest path through the parts: how long another must be to be as urgent."""


@dataclass(frozen=True)
class CompiledPart:
    """A function of tensors in order, the names of what it takes and gives, the submodule it is of, its precision.

    It takes so many `microseconds`, roughly.
    """

    submodule: str
    precision: Precision
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    microseconds: float = 0

    def __call__(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name; the inputs are among `tensors`. Raises InputError if it does not compile, when it has to."""
        with compiling(self.submodule), tf32(self.precision is Precision.TF32):  # for what libraries compute
            outputs = self.function(*(tensors[name] for name in self.inputs))
        return dict(zip(self.outputs, (outputs,) if isinstance(outputs, Tensor) else outputs, strict=True))


@dataclass(frozen=True, eq=False)
class CompiledNetwork:
    """A function from a network's inputs to all that its submodules produce, by name: the `outputs`.

    `modules` are what the parts were compiled of; they hold the constants.
    """

    parts: Sequence[CompiledPart]
    outputs: Sequence[str]
    modules: Sequence[GraphModule]
    _captured: list[Tensor] = field(default_factory=list)

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Raises InputError for a part that does not compile, when it has to."""
        produced = run_side_by_side(self.parts, inputs)
        return {name: produced[name] for name in self.outputs}

    def with_part(self, part: CompiledPart) -> CompiledNetwork:
        """Likewise, and beside it what `part` computes of inputs and outputs as soon as they are there."""
        return replace(self, parts=(*self.parts, part), outputs=(*self.outputs, *part.outputs))

    def renew_counters(self) -> None:
        """Before a capture: the graph can run beside all that were captured before, which keep their counters."""
        for module in self.modules:
            self._captured.extend(renew_counters(module))


def compile_network(network: Network, precision: Precision, *, inductor: bool = True) -> CompiledNetwork:
    """A function from the network's inputs to all that its submodules produce, by name.

    Submodules are exported where the network's weights are. With `inductor`, torch.compile fuses what is left around
    the products, at the first call. Tensors in memory are FP32 in every precision, but for images between convolutions,
    which have the type of their factors in FP16 and BF16. Raises InputError, as the first call does, for a submodule
    that does not compile.
    """
    return compile_parts(rewrite_network(network, precision), network.graph, inductor=inductor)


def compile_submodule(
    network: Network, submodule: Submodule, precision: Precision, *, inductor: bool = True
) -> list[CompiledPart]:
    """One submodule in the order of its parts. Raises InputError for one that cannot be exported."""
    return [compile_part(part, inductor=inductor) for part in rewrite_submodule(network, submodule, precision)]


def compile_parts(
    parts: Sequence[RewrittenPart], graph: NetworkGraph, *, inductor: bool = True, folder: Path | None = None
) -> CompiledNetwork:
    """The network of `graph` by its rewritten parts, as `compile_network` gives it.

    If a `folder` is given, what Inductor makes of these very parts is there, or is kept there: see `FusedPart`.
    """
    compiled = [compile_part(part, str(n), inductor=inductor, folder=folder) for n, part in enumerate(parts)]
    return CompiledNetwork(compiled, [spec.name for spec in graph.outputs], [part.module for part in parts])


def compile_part(
    part: RewrittenPart, name: str = "part", *, inductor: bool = True, folder: Path | None = None
) -> CompiledPart:
    """A part, which Inductor fuses if it is wanted: by torch.compile at the first call, or by way of a `folder`."""
    function: Callable[..., Any] = part.module
    if inductor:
        # A module's `forward`, not the module: when that fails, it looks at the failure in ways torch.compile fails at.
        function = _fused(part.module.forward) if folder is None else FusedPart(part.module, name, folder)
    return CompiledPart(part.submodule, part.precision, function, part.inputs, part.outputs, cost(part.module))


def _fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """By torch.compile, whose kernels may start while the one before them ends, as ours do, where it knows how."""
    from torch._inductor import config

    options: dict[str, Any] = {"triton.enable_pdl": True} if hasattr(config.triton, "enable_pdl") else {}
    compiled: Callable[..., Any] = torch.compile(function, dynamic=False, fullgraph=True, options=options)
    return compiled


def run_side_by_side(parts: Sequence[CompiledPart], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All outputs of the parts; on a GPU each waits for those alone whose outputs it reads.

    Every output lives until all parts are done, so that none reuses the memory of one that another still reads.
    """
    produced: dict[str, Tensor] = {}
    if not next(iter(inputs.values())).is_cuda:
        for part in parts:
            produced |= part({**inputs, **produced})
        return produced
    caller = torch.cuda.current_stream()
    started = caller.record_event()
    done: dict[str, Work] = {}
    last: dict[torch.cuda.Stream, Work] = {}
    urgent = urgent_parts(parts)
    for number, part in enumerate(parts):
        awaited = [done[name] for name in part.inputs if name in done]
        alike = [work for work in last.values() if (work.number in urgent) == (number in urgent)]
        stream = stream_after(awaited, alike) or torch.cuda.Stream(priority=FIRST if number in urgent else LATER)
        for event in (started, *(work.event for work in awaited)):
            stream.wait_event(event)
        with torch.cuda.stream(stream):
            outputs = part({**inputs, **produced})
        before = frozenset({number}).union(*(work.before for work in awaited))
        work = last[stream] = Work(number, before, stream, stream.record_event())
        done |= dict.fromkeys(outputs, work)
        produced |= outputs
        caller.wait_event(work.event)
    return produced


def urgent_parts(parts: Sequence[CompiledPart]) -> frozenset[int]:
    """The numbers of those on a path nearly as long as the longest, whose kernels are to run before others' kernels."""
    giver = {name: number for number, part in enumerate(parts) for name in part.outputs}
    awaited = [
        {giver[name] for name in part.inputs if giver.get(name, number) < number} for number, part in enumerate(parts)
    ]
    until, after = dict[int, float](), dict[int, float]()
    for number, part in enumerate(parts):
        until[number] = part.microseconds + max((until[other] for other in awaited[number]), default=0)
    for number in reversed(range(len(parts))):
        after.setdefault(number, 0)
        for other in awaited[number]:
            after[other] = max(after.get(other, 0), after[number] + parts[number].microseconds)
    longest = max(until.values())
    return frozenset(number for number in until if until[number] + after[number] >= URGENT * longest)


@dataclass(frozen=True)
class Work:
    """A part that was given to a stream, by its number; those that it waits for, itself among them; when it is done."""

    number: int
    before: frozenset[int]
    stream: torch.cuda.Stream
    event: torch.cuda.Event


def stream_after(awaited: Collection[Work], last: Iterable[Work]) -> torch.cuda.Stream | None:
    """The stream, of those whose `last` work is waited for anyway, that the latest awaited work is on, if there is any.

    There, the first kernel may start while the last one ends. And fewer streams need less of cuBLAS's memory.
    """
    before = frozenset[int]().union(*(work.before for work in awaited))
    ended = [work for work in last if work.number in before]
    return max(ended, key=lambda work: (work in awaited, work.number)).stream if ended else None
