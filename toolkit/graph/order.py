"""Running order of the nodes of an onnx-graphsurgeon graph."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from toolkit.graph.edits import graph_and_inner

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def sort_nodes(graph: gs.Graph) -> None:
    """Move each node behind those it needs, and otherwise leave the order, which keeps the peak of memory as it was.

    Inner graphs are sorted as well. Raises ValueError if nodes form a cycle.
    """
    for part in graph_and_inner(graph):
        part.nodes = in_order(part.nodes)


def in_order(nodes: list[gs.Node]) -> list[gs.Node]:
    """The nodes of one graph in running order. Raises ValueError if they form a cycle."""
    position = {id(node): index for index, node in enumerate(nodes)}
    needs = {
        index: {
            position[id(maker)] for tensor in needed_tensors(node) for maker in tensor.inputs if id(maker) in position
        }
        for index, node in enumerate(nodes)
    }
    if all(needed < index for index, used in needs.items() for needed in used):
        return nodes
    try:
        order = list(in_place_order(needs))
    except CycleError as error:
        names = ", ".join(repr(nodes[index].name) for index in error.args[1][:4])
        raise ValueError(f"nodes form a cycle: {names}") from error
    return [nodes[index] for index in order]


def in_place_order(needs: dict[int, set[int]]) -> Iterator[int]:
    """Positions such that each comes after those it needs, which move just before the first that needs them."""
    TopologicalSorter(needs).prepare()  # finds cycles
    done: set[int] = set()
    for first in needs:
        waiting = [first] if first not in done else []
        while waiting:
            open_needs = needs[waiting[-1]] - done
            if open_needs:
                waiting.append(min(open_needs))
            else:
                index = waiting.pop()
                done.add(index)
                yield index


def needed_tensors(node: gs.Node) -> Iterator[gs.Tensor]:
    """Inputs of a node and, if it holds graphs, what these use, their own tensors included."""
    yield from node.inputs
    for inner in node.subgraphs(recursive=True):
        yield from inner.outputs
        for inner_node in inner.nodes:
            yield from inner_node.inputs
