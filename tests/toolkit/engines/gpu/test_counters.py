"""Counters of kernels are renewed for each capture, and nothing else of a part."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule

from toolkit.engines.gpu.compiled import operators  # noqa: F401  (registers what the graph calls)
from toolkit.engines.gpu.compiled.counters import renew_counters
from toolkit.engines.gpu.compiled.network import CompiledNetwork
from toolkit.engines.gpu.compiled.passes.graph_edit import add_constant


def two_layers() -> GraphModule:
    """Of which the first shares its sums among programs."""
    module = GraphModule(torch.nn.Module(), Graph())
    value = module.graph.placeholder("x")
    for blocks in (3, 0):
        weight = add_constant(module, torch.eye(4)[None])
        arrived = add_constant(module, torch.zeros(blocks, dtype=torch.int32))
        value = module.graph.call_function(torch.ops.uniad_gpu.linear.default, (value, weight, None, arrived, False))
    module.graph.output(value)
    module.recompile()
    return module


def test_counters_alone_are_new() -> None:
    module = two_layers()
    constants = dict(module.named_buffers())
    [before] = renew_counters(module)
    assert before is constants["constant_1"]
    after = dict(module.named_buffers())
    assert [name for name, tensor in after.items() if tensor is not constants[name]] == ["constant_1"]
    assert (after["constant_1"].tolist(), after["constant_1"].dtype) == ([0, 0, 0], torch.int32)


def test_a_network_keeps_those_that_graphs_use() -> None:
    """By their address, so that nobody else may get their memory."""
    module = two_layers()
    network, used = CompiledNetwork([], [], [module]), []
    for _ in range(3):
        used.append(module.get_buffer("constant_1"))
        network.renew_counters()
    assert len({tensor.data_ptr() for tensor in (*used, module.get_buffer("constant_1"))}) == 4
    assert all(kept is tensor for kept, tensor in zip(network._captured, used, strict=True))


def test_what_was_compiled_is_not_compiled_again() -> None:
    """New counters are of the same kind, also within inference mode, where a network runs."""
    module, compiled = two_layers(), 0

    def backend(graph: GraphModule, examples: list[Tensor]) -> object:
        nonlocal compiled
        compiled += 1
        return graph.forward

    function = torch.compile(module.forward, dynamic=False, fullgraph=True, backend=backend)
    with torch.inference_mode():
        for _ in range(3):
            assert function(torch.ones(2, 4)).tolist() == [[1.0] * 4] * 2
            renew_counters(module)
    assert compiled == 1
