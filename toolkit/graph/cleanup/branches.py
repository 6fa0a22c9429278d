"""Conditions that are known: the branch that is taken replaces the choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.graph.edits import graph_and_inner, input_constant, is_standard
from toolkit.graph.graph_pass import Change

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def take_constant_branches(graph: gs.Graph) -> list[Change]:
    """Put the nodes of the branch in place of every ``If`` whose condition is constant."""
    changes = []
    for part in list(graph_and_inner(graph)):
        for node in list(part.nodes):
            condition = input_constant(node, 0) if is_standard(node, "If") else None
            if condition is None:
                continue
            branch = node.attrs["then_branch" if condition.item() else "else_branch"]
            position = next(index for index, own in enumerate(part.nodes) if own is node)
            rename_apart(branch, node.name)
            outputs = list(node.outputs)
            node.outputs.clear()
            part.nodes[position : position + 1] = [*branch.nodes, *hand_on(branch.outputs, outputs, node.name)]
            changes.append(Change(node.name, f"takes the branch {branch.name!r}"))
    return changes


def rename_apart(branch: gs.Graph, prefix: str) -> None:
    """Give the nodes of a branch and the tensors they make names of their own in the graph around it."""
    import onnx_graphsurgeon as gs

    for index, inner in enumerate(branch.nodes):
        inner.name = f"{prefix}/{inner.name or index}"
        for tensor in inner.outputs:
            if tensor.name:
                tensor.name = f"{prefix}/{tensor.name}"
        for tensor in inner.inputs:
            if isinstance(tensor, gs.Constant) and not tensor.name.startswith(f"{prefix}/"):
                tensor.name = f"{prefix}/{tensor.name}"


def hand_on(results: list[gs.Tensor], outputs: list[gs.Tensor], prefix: str) -> list[gs.Node]:
    """Nodes that make of each result of the branch the tensor that the graph around it uses."""
    import onnx_graphsurgeon as gs

    return [
        gs.Node("Identity", f"{prefix}/{output.name}", inputs=[result], outputs=[output])
        for result, output in zip(results, outputs, strict=True)
    ]
