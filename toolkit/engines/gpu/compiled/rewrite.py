"""The network, submodule by submodule, as graphs that are rewritten for a GPU and not yet compiled."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch
from torch.fx import GraphModule

from toolkit.engines.gpu.compiled.branches import spread
from toolkit.engines.gpu.compiled.export import export_graph
from toolkit.engines.gpu.compiled.failures import preparing
from toolkit.engines.gpu.compiled.pipeline import optimize
from toolkit.engines.gpu.compiled.split import split_at
from toolkit.engines.gpu.compiled.tf32 import tf32
from toolkit.network import Network, example_inputs
from toolkit.precision import Precision
from toolkit.specs import Submodule


@dataclass(frozen=True)
class RewrittenPart:
    """A graph of tensors in order, the names of what it takes and gives, the submodule it is of, its precision."""

    submodule: str
    precision: Precision
    module: GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def rewrite_network(network: Network, precision: Precision) -> list[RewrittenPart]:
    """The parts of all submodules in execution order. Raises InputError for one that cannot be exported."""
    return [part for submodule in network.graph.submodules for part in rewrite_submodule(network, submodule, precision)]


def rewrite_submodule(network: Network, submodule: Submodule, precision: Precision) -> list[RewrittenPart]:
    """One submodule in the order of its parts: what can run before its latest input is there, what other submodules
    wait for, and the rest, as far as there is any.

    It is exported where the network's weights are, and keeps FP32 if it wants to as a whole. Raises InputError for one
    that cannot be exported.
    """
    part = network.parts[submodule.name]
    device = _device_of(network)
    examples = [x.to(device) for x in example_inputs(network.graph.inputs_of(submodule), network.graph.config)]
    own_precision = Precision.FP32 if "*" in submodule.keep_fp32 else precision
    outputs = [spec.name for spec in submodule.outputs]
    late, awaited = _latest_inputs(network, submodule), _awaited_outputs(network, submodule)
    with preparing(submodule.name), torch.no_grad(), tf32(False):
        module = export_graph(part, examples)
        optimize(module, own_precision, submodule.gpu_rewrites() if submodule.gpu_rewrites else ())
        parts = [each for part in split_at(module, submodule.reads, outputs, late, awaited) for each in spread(part)]
    return [RewrittenPart(submodule.name, own_precision, part.module, part.inputs, part.outputs) for part in parts]


def _device_of(network: Network) -> torch.device:
    """Where all of the network is; a submodule may have no weights that would say so."""
    return next(chain(network.parameters(), network.buffers()), torch.empty(0)).device


def _latest_inputs(network: Network, submodule: Submodule) -> set[str]:
    """The inputs that come from the last of the submodules that this one waits for."""
    names = set(submodule.reads)
    producers = [names.intersection(o.name for o in s.outputs) for s in network.graph.submodules]
    return next((found for found in reversed(producers) if found), set())


def _awaited_outputs(network: Network, submodule: Submodule) -> set[str]:
    """The outputs that other submodules read."""
    read = {name for other in network.graph.submodules for name in other.reads if other is not submodule}
    return read.intersection(spec.name for spec in submodule.outputs)
