"""Whether the nodes of an ONNX graph can run, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Set
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from onnx import GraphProto, NodeProto

from toolkit.errors import InputError
from toolkit.onnx_nodes import inner_graphs
from toolkit.text import quoted, shown


def check_graph(graph: GraphProto, path: Path, outer: Set[str] = frozenset()) -> None:
    """Order the nodes so that each comes after those it needs; `outer` are tensors of the graphs around this one.

    Raises InputError, naming the nodes, for a cycle, a tensor that nothing makes, and a tensor made twice.
    """
    given = {value.name for value in (*graph.input, *graph.initializer)}
    given |= {"", *outer, *(tensor.values.name for tensor in graph.sparse_initializer)}
    makers = makers_of_tensors(graph, path)
    needs: dict[int, set[int]] = {}
    for index, node in enumerate(graph.node):
        unknown = next((name for name in used_tensors(node) if name not in given and name not in makers), None)
        if unknown is not None:
            raise InputError(
                f"ONNX model {path}: {label(node)} uses {quoted(unknown)}, which nothing makes; export it again"
            )
        needs[index] = {makers[name] for name in used_tensors(node) if name in makers}
    missing = next((v.name for v in graph.output if v.name not in given and v.name not in makers), None)
    if missing is not None:
        raise InputError(f"ONNX model {path}: nothing makes the output {quoted(missing)}; export it again")
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        cycle = " -> ".join(label(graph.node[index]) for index in reversed(error.args[1][:4]))
        raise InputError(
            f"ONNX model {path}: its nodes form a cycle, {cycle}; a recurrent model takes its state as an input"
        ) from error
    if any(needed >= index for index, used in needs.items() for needed in used):
        nodes = [NodeProto.FromString(graph.node[index].SerializeToString()) for index in order]
        del graph.node[:]
        graph.node.extend(nodes)
    for node in graph.node:
        for inner in inner_graphs(node):
            check_graph(inner, path, given | makers.keys())


def makers_of_tensors(graph: GraphProto, path: Path) -> dict[str, int]:
    """The position of the node that makes each tensor. Raises InputError for a tensor made twice."""
    makers: dict[str, int] = {}
    given = {value.name for value in (*graph.input, *graph.initializer)}
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in makers or name in given:
                raise InputError(
                    f"ONNX model {path}: {label(node)} makes {quoted(name)} a second time; export it again"
                )
            makers[name] = index
    return makers


def used_tensors(node: NodeProto) -> Iterator[str]:
    """Names that a node needs from its graph or those around it."""
    yield from node.input
    for inner in inner_graphs(node):
        own = {value.name for value in (*inner.input, *inner.initializer)}
        own |= {name for inner_node in inner.node for name in inner_node.output}
        needed = [value.name for value in inner.output]
        needed += [name for inner_node in inner.node for name in used_tensors(inner_node)]
        yield from (name for name in needed if name not in own)


def label(node: NodeProto) -> str:
    """How messages name a node."""
    return (
        f"node {quoted(node.name)} ({shown(node.op_type)})" if node.name else f"a nameless {shown(node.op_type)} node"
    )
