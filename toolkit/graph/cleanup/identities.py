"""Removal of nodes that hand their input on as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from toolkit.graph.edits import Rewiring, graph_and_inner, input_constant, is_standard, static_shape
from toolkit.graph.graph_pass import Change, GraphPass, NearMiss, Outcome

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

LAYOUT_OPS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""They keep the order of the elements: in a row they change nothing if the last shape is the first."""
SINGLE_OPS = ("Concat", "Sum", "Max", "Min", "Mean")
"""Of a single input, they are that input."""


def apply(graph: gs.Graph) -> Outcome:
    """Let the users of such a node use its input."""
    changes, near_misses = [], []
    for part in graph_and_inner(graph):
        rewiring = Rewiring(part)
        for node in part.nodes:
            source = unchanged_input(node)
            if source is None:
                continue
            if rewiring.replace(node.outputs[0], source):
                changes.append(Change(node.name, f"{node.op} removed"))
            else:
                near_misses.append(NearMiss(node.name, f"{node.op} joins an input or constant to an output"))
    return Outcome(tuple(changes), tuple(near_misses))


def unchanged_input(node: gs.Node) -> gs.Tensor | None:
    """The tensor, at the input or further up, that the node's result equals; None if there is none."""
    if not is_standard(node) or not node.inputs:
        return None
    x, out = node.inputs[0], node.outputs[0]
    if node.op == "Identity":
        return x
    if node.op in ("Cast", "CastLike"):
        return x if x.dtype is not None and x.dtype == cast_type(node) else None
    if node.op == "Dropout":
        unused_mask = len(node.outputs) == 1 or not node.outputs[1].outputs
        return x if unused_mask and not trains(node) else None
    if node.op == "Transpose":
        return transposed_back(node)
    if node.op in SINGLE_OPS:
        return x if len(node.inputs) == 1 else None
    if node.op in LAYOUT_OPS:
        return same_layout(node)
    if node.op == "Pad":
        return x if pads_nothing(node) else None
    if node.op in ("Expand", "Tile", "Slice"):
        same = static_shape(x) is not None and static_shape(x) == static_shape(out)
        return x if same and not reverses(node) else None
    return None


def cast_type(node: gs.Node) -> np.dtype[Any] | int | None:
    """The type that a cast makes, as graphs write it: numpy's where there is one."""
    if node.op == "CastLike":
        dtype: np.dtype[Any] | int | None = node.inputs[1].dtype
        return dtype
    dtype = onnx.helper.tensor_dtype_to_np_dtype(node.attrs["to"])
    return dtype if dtype.isbuiltin == 1 else int(node.attrs["to"])


def trains(node: gs.Node) -> bool:
    """Whether a dropout node may drop anything."""
    if len(node.inputs) < 3 or node.inputs[2].is_empty():
        return False
    training = input_constant(node, 2)
    return training is None or bool(training)


def transposed_back(node: gs.Node) -> gs.Tensor | None:
    """What a transposition, or two in a row, leave as it was."""
    permutation = node.attrs.get("perm")
    if permutation is None:
        return None
    x = node.inputs[0]
    if list(permutation) == sorted(permutation):
        return x
    before = x.inputs[0] if x.inputs else None
    if before is not None and is_standard(before, "Transpose") and "perm" in before.attrs:
        inner = before.attrs["perm"]
        if [inner[axis] for axis in permutation] == sorted(permutation):
            return before.inputs[0]
    return None


def same_layout(node: gs.Node) -> gs.Tensor | None:
    """The furthest tensor up a row of reshapes that has the static shape of the node's output."""
    shape = static_shape(node.outputs[0])
    found, tensor = None, node.inputs[0]
    while shape is not None:
        if static_shape(tensor) == shape:
            found = tensor
        if len(tensor.inputs) != 1 or not is_standard(tensor.inputs[0], *LAYOUT_OPS):
            break
        tensor = tensor.inputs[0].inputs[0]
    return found


def reverses(node: gs.Node) -> bool:
    """Whether a slice may take its elements in another order."""
    if node.op != "Slice" or len(node.inputs) < 5:
        return False
    steps = input_constant(node, 4)
    return steps is None or bool((steps < 0).any())


def pads_nothing(node: gs.Node) -> bool:
    """Whether padding is known to add and to crop nothing; the shapes would not tell, if it crops what it adds."""
    pads = input_constant(node, 1)
    return pads is not None and not pads.any()


REMOVE_IDENTITIES = GraphPass(
    "remove-identities",
    "Nodes that change nothing cost time, and hide patterns from the passes that follow.",
    apply,
)
