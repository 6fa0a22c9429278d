"""A graph in two: what can run before a late input is there, and the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch.fx import Graph, GraphModule, Node

from toolkit.engines.gpu.compiled.passes.graph_edit import OPERATORS
from toolkit.ops.spec import DOMAIN

WORTHWHILE = (OPERATORS, DOMAIN)
"""Namespaces of operators with kernels of their own: a part without one is not worth its launch."""


@dataclass(frozen=True)
class Part:
    """A graph by itself, the names of its inputs in order, and those of its outputs."""

    module: GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def split_at(gm: GraphModule, inputs: Collection[str], outputs: Collection[str], late: Collection[str]) -> list[Part]:
    """Split `gm`, whose inputs and outputs have these names in order, into what needs none of `late` and the rest.

    Values that pass from one to the other are named after their nodes. One part, if the first would do no work.
    """
    names = dict(zip((n for n in gm.graph.nodes if n.op == "placeholder"), inputs, strict=True))
    (returned,) = gm.graph.output_node().args
    results = dict(zip(outputs, returned if isinstance(returned, list | tuple) else (returned,), strict=True))
    calls = [n for n in gm.graph.nodes if n.op == "call_function"]
    behind = {node for node, name in names.items() if name in late}
    for node in calls:
        if behind.intersection(node.all_input_nodes):
            behind.add(node)
    early, rest = [n for n in calls if n not in behind], [n for n in calls if n in behind]
    if not rest or not any(getattr(n.target, "namespace", "") in WORTHWHILE for n in early):
        return [Part(gm, tuple(inputs), tuple(outputs))]
    done = {name: n for name, n in results.items() if n in early}
    known = {node: name for name, node in done.items()}
    for node in early:
        if node not in known and behind.intersection(node.users):
            known[node] = f"{node.name} of {next(iter(outputs))}"
    left = {name: n for name, n in results.items() if name not in done}
    first = done | {name: node for node, name in known.items()}
    return [_part(gm, early, first, names), _part(gm, rest, left, names | known)]


def _part(gm: GraphModule, calls: list[Node], results: Mapping[str, Node], names: Mapping[Node, str]) -> Part:
    """The graph of `calls`; what they read and do not compute is an input, which has a name, or a constant."""
    graph, copies = Graph(), dict[Node, Node]()
    computed = set(calls)
    read = dict.fromkeys(n for call in calls for n in call.all_input_nodes) | dict.fromkeys(results.values())
    inputs = [n for n in read if n in names and n not in computed]
    for node in inputs:
        copies[node] = graph.placeholder(node.name)
        copies[node].meta = dict(node.meta)
    for node in (*(n for n in read if n.op == "get_attr"), *calls):
        copies[node] = graph.node_copy(node, lambda n: copies[n])
    graph.output(tuple(copies[n] for n in results.values()))
    return Part(GraphModule(gm, graph), tuple(names[n] for n in inputs), tuple(results))
