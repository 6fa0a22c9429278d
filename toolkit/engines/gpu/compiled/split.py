"""A graph in up to three: what can run before a late input is there, what others wait for, and the rest."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
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


def split_at(
    gm: GraphModule,
    inputs: Collection[str],
    outputs: Collection[str],
    late: Collection[str],
    awaited: Collection[str],
) -> list[Part]:
    """Split `gm`, whose inputs and outputs have these names in order.

    First comes what needs none of the inputs `late`, then what the outputs `awaited` need, then the rest, each if it
    does work worth a launch. Values that pass from one to another are named after their nodes.
    """
    names = _input_names(gm, inputs)
    late_nodes = {node for node, name in names.items() if name in late}
    results = _results(gm, outputs)
    groups = _groups(gm, late_nodes, {results[name] for name in awaited})
    return divide(gm, groups, inputs, outputs, late_nodes)


def divide(
    gm: GraphModule,
    groups: Sequence[Sequence[Node]],
    inputs: Collection[str],
    outputs: Collection[str],
    late: Collection[Node] = (),
) -> list[Part]:
    """The parts of `gm` with these calls each, of which none reads what a later one computes.

    Inputs and outputs have these names in order. Inputs that are outputs as well are given by the first part, but for
    those that come `late`.
    """
    names, left = _input_names(gm, inputs), _results(gm, outputs)
    if len(groups) == 1:
        return [Part(gm, tuple(inputs), tuple(outputs))]
    parts = []
    for number, calls in enumerate(groups):
        own, behind = set(calls), {node for group in groups[number + 1 :] for node in group}
        # Inputs and constants are given as soon as they are there: others may wait for them.
        passive = {node for node in left.values() if node.op != "call_function"}
        there = own | passive.difference(late) if number == 0 else own | passive
        done = {name: node for name, node in left.items() if node in there}
        left = {name: node for name, node in left.items() if name not in done}
        known = {node: name for name, node in done.items() if node in own}
        for node in calls:
            if node not in known and behind.intersection(node.users):
                known[node] = f"{node.name} of {next(iter(outputs))}"
        parts.append(_part(gm, calls, done | {name: node for node, name in known.items()}, names))
        names |= known
    return parts


def _input_names(gm: GraphModule, inputs: Collection[str]) -> dict[Node, str]:
    return dict(zip((n for n in gm.graph.nodes if n.op == "placeholder"), inputs, strict=True))


def _results(gm: GraphModule, outputs: Collection[str]) -> dict[str, Node]:
    (returned,) = gm.graph.output_node().args
    nodes = returned if isinstance(returned, list | tuple) else (returned,)
    return dict(zip(outputs, nodes, strict=True))


def _groups(gm: GraphModule, late: Collection[Node], awaited: Collection[Node]) -> list[list[Node]]:
    """The calls of each part."""
    calls = [n for n in gm.graph.nodes if n.op == "call_function"]
    behind, needed = set(late), set(awaited)
    for node in calls:
        if behind.intersection(node.all_input_nodes):
            behind.add(node)
    for node in reversed(calls):
        if needed.intersection(node.users):
            needed.add(node)
    # Only tensors pass from part to part: elements go with what they are of.
    needed |= {node for node in calls if node.target is operator.getitem and node.args[0] in needed}
    early = [n for n in calls if n not in behind] if behind.intersection(calls) else []
    rest = [n for n in calls if n not in set(early)]
    waves = [[n for n in rest if n in needed], [n for n in rest if n not in needed]]
    groups = waves if all(is_worthwhile(wave) for wave in waves) else [rest]
    return [early, *groups] if is_worthwhile(early) else [early + groups[0], *groups[1:]]


def is_worthwhile(calls: Collection[Node]) -> bool:
    """Whether one of them is of an operator with a kernel of its own."""
    return any(getattr(n.target, "namespace", "") in WORTHWHILE for n in calls)


def _part(gm: GraphModule, calls: Sequence[Node], results: Mapping[str, Node], names: Mapping[Node, str]) -> Part:
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
