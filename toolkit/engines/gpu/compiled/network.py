"""The network, submodule by submodule, rewritten and compiled for a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from toolkit.engines.gpu.compiled.export import export_graph
from toolkit.engines.gpu.compiled.failures import compiling, preparing
from toolkit.engines.gpu.compiled.pipeline import optimize
from toolkit.engines.gpu.compiled.split import split_at
from toolkit.network import Network, example_inputs
from toolkit.precision import Precision
from toolkit.specs import Submodule

NetworkFunction = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class CompiledPart:
    """A function of tensors in order, the names of what it takes and gives, the submodule it is of, its precision."""

    submodule: str
    precision: Precision
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __call__(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name; the inputs are among `tensors`. Raises InputError if it does not compile, when it has to."""
        with compiling(self.submodule), tf32(self.precision is Precision.TF32):  # for what libraries compute
            outputs = self.function(*(tensors[name] for name in self.inputs))
        return dict(zip(self.outputs, (outputs,) if isinstance(outputs, Tensor) else outputs, strict=True))


def compile_network(network: Network, precision: Precision, *, inductor: bool = True) -> NetworkFunction:
    """A function from the network's inputs to all that its submodules produce, by name.

    Submodules are exported where the network's weights are. With `inductor`, torch.compile fuses what is left around
    the products, at the first call. Tensors in memory are FP32 in every precision, but for images between convolutions,
    which have the type of their factors in FP16 and BF16. Raises InputError, as the first call does, for a submodule
    that does not compile.
    """
    parts = [
        part
        for submodule in network.graph.submodules
        for part in compile_submodule(network, submodule, precision, inductor=inductor)
    ]
    names = [spec.name for spec in network.graph.outputs]

    def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        produced = run_side_by_side(parts, inputs)
        return {name: produced[name] for name in names}

    return run


def compile_submodule(
    network: Network, submodule: Submodule, precision: Precision, *, inductor: bool = True
) -> list[CompiledPart]:
    """One submodule in the order of its parts: what can run before its latest input is there, what other submodules
    wait for, and the rest, as far as there is any.

    A submodule that wants to keep FP32 as a whole does so. Raises InputError for one that cannot be exported.
    """
    part = network.parts[submodule.name]
    device = _device_of(network)
    examples = [x.to(device) for x in example_inputs(network.graph.inputs_of(submodule), network.graph.config)]
    own_precision = Precision.FP32 if "*" in submodule.keep_fp32 else precision
    outputs = [spec.name for spec in submodule.outputs]
    late, awaited = _latest_inputs(network, submodule), _awaited_outputs(network, submodule)
    with preparing(submodule.name), torch.no_grad(), tf32(False):
        module = export_graph(part, examples)
        optimize(module, own_precision)
        parts = split_at(module, submodule.reads, outputs, late, awaited)
    # A module's `forward`, not the module: when that fails, it looks at the failure in ways torch.compile fails at.
    functions = [_fused(part.module.forward) if inductor else part.module for part in parts]
    return [
        CompiledPart(submodule.name, own_precision, function, part.inputs, part.outputs)
        for part, function in zip(parts, functions, strict=True)
    ]


def _device_of(network: Network) -> torch.device:
    """Where all of the network is; a submodule may have no weights that would say so."""
    return next(chain(network.parameters(), network.buffers()), torch.empty(0)).device


def _fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """By torch.compile, whose kernels may start while the one before them ends, as ours do, where it knows how."""
    from torch._inductor import config

    options: dict[str, Any] = {"triton.enable_pdl": True} if hasattr(config.triton, "enable_pdl") else {}
    compiled: Callable[..., Any] = torch.compile(function, dynamic=False, fullgraph=True, options=options)
    return compiled


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether PyTorch's own products and convolutions may use TF32, for as long as the context lasts."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = allowed
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _latest_inputs(network: Network, submodule: Submodule) -> set[str]:
    """The inputs that come from the last of the submodules that this one waits for."""
    names = set(submodule.reads)
    producers = [names.intersection(o.name for o in s.outputs) for s in network.graph.submodules]
    return next((found for found in reversed(producers) if found), set())


def _awaited_outputs(network: Network, submodule: Submodule) -> set[str]:
    """The outputs that other submodules read."""
    read = {name for other in network.graph.submodules for name in other.reads if other is not submodule}
    return read.intersection(spec.name for spec in submodule.outputs)


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
    done: dict[str, torch.cuda.Event] = {}
    for part in parts:
        stream = torch.cuda.Stream()
        for event in (started, *(done[name] for name in part.inputs if name in done)):
            stream.wait_event(event)
        with torch.cuda.stream(stream):
            outputs = part({**inputs, **produced})
        event = stream.record_event()
        done |= dict.fromkeys(outputs, event)
        produced |= outputs
        caller.wait_event(event)
    return produced
