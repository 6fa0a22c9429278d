"""Nodes of a graph that nothing needs, taken out of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from toolkit.graph.order import needed_tensors

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def remove_unused(graph: gs.Graph) -> None:
    """Remove the nodes that lead to no output, in inner graphs and local functions too, in time linear in all nodes.

    What makes an input of the graph goes as well: the input is given.
    """
    for function in graph.functions:
        remove_unused_of(function)
    remove_unused_of(graph)


def remove_unused_of(graph: gs.Graph) -> None:
    """The same without local functions."""
    for inner in graph.subgraphs():
        remove_unused_of(inner)
    for tensor in graph.inputs:
        tensor.inputs.clear()
    used = used_nodes(graph)
    detach(node for node in graph.nodes if id(node) not in used)
    graph.nodes = [node for node in graph.nodes if id(node) in used]


def used_nodes(graph: gs.Graph) -> set[int]:
    """The ids of the nodes that lead to an output of a graph."""
    own = {id(node) for node in graph.nodes}
    used: set[int] = set()
    waiting = list(graph.outputs)
    while waiting:
        for maker in waiting.pop().inputs:
            if id(maker) in own and id(maker) not in used:
                used.add(id(maker))
                waiting += needed_tensors(maker)
    return used


def detach(nodes: Iterable[gs.Node]) -> None:
    """Leave nodes without inputs and outputs.

    The lists of onnx-graphsurgeon would do so one by one, and compare the node with all others that use a tensor.
    """
    detached = {id(node): node for node in nodes}
    tensors = {id(tensor): tensor for node in detached.values() for tensor in (*node.inputs, *node.outputs)}
    for tensor in tensors.values():
        for ends in (tensor.inputs, tensor.outputs):
            list.__setitem__(ends, slice(None), [node for node in ends if id(node) not in detached])
    for node in detached.values():
        list.clear(node.inputs)
        list.clear(node.outputs)
