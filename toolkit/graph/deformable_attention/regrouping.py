"""How the nodes that only regroup elements change a layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from toolkit.graph.deformable_attention.layout import Layout
from toolkit.graph.deformable_attention.sizes import Sizes, type_number
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

REGROUPING_OPS = frozenset(
    ("Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
)
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})


def regroups(node: gs.Node) -> bool:
    """Whether the outputs of a node have elements of its first input alone, if rounded to another type."""
    if node.domain:
        return False
    return node.op in REGROUPING_OPS or (
        node.op == "Cast" and {type_number(node.inputs[0]), node.attrs["to"]} <= FLOATS
    )


def regrouped_by(node: gs.Node, made: gs.Tensor, layout: Layout, sizes: Sizes) -> Layout:
    """The layout of the output `made` of a regrouping node whose first input has `layout`.

    Raises Unfit if the output is no strided view of that input's source, or if sizes are not known.
    """
    match node.op:
        case "Transpose":
            return layout.transpose(node.attrs.get("perm", range(len(layout.axes))[::-1]))
        case "Split":
            return split(node, made, layout, sizes)
        case "Slice":
            return sliced(node, layout, sizes)
        case "Gather":
            return gathered(node, layout, sizes)
        case "Cast" | "Identity":
            return layout
        case "Expand":
            return layout.expand(sizes.known_shape(made))
        case _:
            return layout.reshape(sizes.known_shape(made))


def split(node: gs.Node, made: gs.Tensor, layout: Layout, sizes: Sizes) -> Layout:
    """One part of a Split."""
    axis = node.attrs.get("axis", 0) % len(layout.axes)
    lengths = [sizes.known_shape(part)[axis] for part in node.outputs]
    index = next(number for number, part in enumerate(node.outputs) if part is made)
    return layout.slice(axis, sum(lengths[:index]), lengths[index])


def sliced(node: gs.Node, layout: Layout, sizes: Sizes) -> Layout:
    """A Slice without steps."""
    values = [sizes.value(tensor) for tensor in node.inputs[1:] if tensor.name]
    if any(value is None for value in values):
        raise Unfit("a slice depends on data")
    starts, ends, axes, steps = [*values, *(None, None)][:4]
    axes = np.arange(len(starts)) if axes is None else axes
    if steps is not None and (steps != 1).any():
        raise Unfit("a slice leaves elements out between others")
    for start, end, axis in zip(starts, ends, axes, strict=True):
        taken = range(layout.shape[axis])[start:end]
        layout = layout.slice(int(axis) % len(layout.axes), taken.start, len(taken))
    return layout


def gathered(node: gs.Node, layout: Layout, sizes: Sizes) -> Layout:
    """A Gather of one index, which drops the axis, or of neighbouring ones."""
    indices, axis = sizes.value(node.inputs[1]), node.attrs.get("axis", 0) % len(layout.axes)
    if indices is None or indices.ndim > 1 or (np.diff(indices.ravel()) != 1).any():
        raise Unfit("elements are gathered in an order of their own")
    first = int(indices.flat[0]) % layout.shape[axis]
    part = layout.slice(axis, first, indices.size)
    return part if indices.ndim else part.drop(axis)
