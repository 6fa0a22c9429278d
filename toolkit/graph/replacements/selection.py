"""Tensors that hold the rows of another where a mask is true, in order: found, and made again with all rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from toolkit.graph.edits import input_constant, is_standard, same_dimensions
from toolkit.graph.replacements.builder import Builder

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

ROW_BY_ROW = (
    *("Abs", "Neg", "Exp", "Log", "Sqrt", "Reciprocal", "Relu", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "Erf", "Gelu"),
    *("Sin", "Cos", "Floor", "Ceil", "Round", "Sign", "Not", "IsNaN", "Cast", "Clip", "Identity", "Softplus"),
)
"""Operators of a single tensor that treat each element alone."""
BROADCASTING = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Where", "Equal", "Greater", "Less", "And", "Or")
"""Operators that treat each place alone."""
POSITION_VIEWS = ("Squeeze", "Unsqueeze", "Identity", "Reshape")
"""They leave the positions of a mask of one axis in order."""


class Unproven(Exception):
    """A tensor is not, or not provably, a selection; `mask` is the one whose positions are involved."""

    def __init__(self, mask: gs.Tensor | None, reason: str) -> None:
        super().__init__(reason)
        self.mask = mask


def positions_mask(tensor: gs.Tensor) -> gs.Tensor | None:
    """The mask of which a tensor [N, rank of the mask] holds the positions; None if it does not."""
    viewed = False
    while tensor.inputs:
        [maker] = tensor.inputs
        if is_standard(maker, "Transpose") and maker.attrs.get("perm") == [1, 0]:
            source = maker.inputs[0].inputs[0] if maker.inputs[0].inputs else None
            if source is None or not is_standard(source, "NonZero"):
                return None
            mask = source.inputs[0]
            return mask if mask.dtype == bool and (not viewed or len(mask.shape or ()) == 1) else None
        if not is_standard(maker, *POSITION_VIEWS) and not is_own_shape(maker):
            return None
        viewed, tensor = True, maker.inputs[0]
    return None


def is_own_shape(node: gs.Node) -> bool:
    """Whether a node expands a tensor to the shape it has, or is the maximum of it alone."""
    if is_standard(node, "Max"):
        return len(node.inputs) == 1
    if not is_standard(node, "Expand") or not node.inputs[1].inputs:
        return False
    [maker] = node.inputs[1].inputs
    return is_standard(maker, "Shape") and maker.inputs[0] is node.inputs[0]


def dense_of(builder: Builder, tensor: gs.Tensor) -> tuple[gs.Tensor, gs.Tensor]:
    """The mask that selects a tensor's rows, and a tensor that has all of them; the builder makes the nodes it needs.

    The mask covers the leading axes of the latter. Raises Unproven, without a mask if no positions are involved.
    """
    maker = tensor.inputs[0] if tensor.inputs else None
    if maker is None or not is_standard(maker):
        raise Unproven(None, f"{tensor.name!r} is not made of selected rows")
    if maker.op == "GatherND":
        return gathered(maker)
    if maker.op in ROW_BY_ROW:
        mask, dense = dense_of(builder, maker.inputs[0])
        return mask, again(builder, maker, [dense, *maker.inputs[1:]], dense.shape)
    if maker.op in BROADCASTING:
        return combined(builder, maker)
    if maker.op == "MatMul":
        return projected(builder, maker)
    raise Unproven(first_mask(tensor), f"{maker.op} {maker.name!r} mixes the rows")


def gathered(node: gs.Node) -> tuple[gs.Tensor, gs.Tensor]:
    """Mask and data of a GatherND at the positions of a mask."""
    data, positions = node.inputs
    mask = positions_mask(positions)
    if mask is None or node.attrs.get("batch_dims", 0):
        raise Unproven(None, "its positions are not those of a mask")
    if mask.shape is None or data.shape is None or not same_dimensions(mask.shape, data.shape[: len(mask.shape)]):
        raise Unproven(mask, f"a mask {mask.shape} on {data.shape}")
    return mask, data


def combined(builder: Builder, node: gs.Node) -> tuple[gs.Tensor, gs.Tensor]:
    """As `dense_of`, for a node of several inputs: selections by one mask, and constants alike for all rows."""
    mask: gs.Tensor | None = None
    dense: list[gs.Tensor] = []
    for tensor in node.inputs:
        if tensor.inputs:
            own, whole = dense_of(builder, tensor)
            if mask is not None and own is not mask:
                raise Unproven(mask, f"{node.op} {node.name!r} joins rows of two masks")
            mask = own
            dense.append(whole)
        else:
            dense.append(tensor)
    if mask is None:
        raise Unproven(None, f"{node.op} {node.name!r} is not made of selected rows")
    if node.op == "Div" and not np.issubdtype(node.outputs[0].dtype or np.int64, np.floating):
        raise Unproven(mask, f"{node.name!r} divides integers, in other rows perhaps by 0")
    largest = max((whole for whole, tensor in zip(dense, node.inputs, strict=True) if whole is not tensor), key=rank)
    per_row = rank(largest) - rank(mask)
    for index, (whole, tensor) in enumerate(zip(dense, node.inputs, strict=True)):
        known = input_constant(node, index)
        if whole is tensor and (known is None or known.ndim > per_row + (known.size == 1)):
            raise Unproven(mask, f"{node.op} {node.name!r} joins the rows with {tensor.name!r}")
        if whole is not tensor and rank(whole) != rank(largest):
            raise Unproven(mask, f"{node.op} {node.name!r} joins rows of different rank")
    return mask, again(builder, node, dense, largest.shape)


def projected(builder: Builder, node: gs.Node) -> tuple[gs.Tensor, gs.Tensor]:
    """As `dense_of`, for a product of selected rows with a constant matrix."""
    mask, dense = dense_of(builder, node.inputs[0])
    matrix = node.inputs[1]
    if rank(dense) == rank(mask) or input_constant(node, 1) is None or rank(matrix) != 2:
        raise Unproven(mask, f"MatMul {node.name!r} mixes the rows")
    return mask, again(builder, node, [dense, matrix], [*dense.shape[:-1], matrix.shape[1]])


def again(builder: Builder, node: gs.Node, inputs: Sequence[gs.Tensor], shape: Sequence[int | str]) -> gs.Tensor:
    """The result of the same operator on all rows, which has that shape."""
    result = builder.node(node.op, inputs, **node.attrs)
    result.shape, result.dtype = list(shape), node.outputs[0].dtype
    return result


def rank(tensor: gs.Tensor) -> int:
    """Number of axes of a tensor whose shape is known."""
    return len(tensor.shape)


def first_mask(tensor: gs.Tensor) -> gs.Tensor | None:
    """A mask whose selected rows a tensor is made of, some nodes away."""
    for _ in range(8):
        if not tensor.inputs or not tensor.inputs[0].inputs:
            return None
        if is_standard(tensor.inputs[0], "GatherND"):
            return positions_mask(tensor.inputs[0].inputs[1])
        tensor = tensor.inputs[0].inputs[0]
    return None


def base_mask(mask: gs.Tensor) -> gs.Tensor:
    """The mask that another repeats along trailing axes, which change nothing about the rows it selects."""
    while mask.inputs and is_standard(mask.inputs[0], "Expand", "Unsqueeze", "Identity"):
        source = mask.inputs[0].inputs[0]
        if mask.shape is None or source.shape is None:
            break
        if mask.inputs[0].op == "Expand" and rank(source) != rank(mask):
            break  # new axes come first
        same = list(source.shape)
        while same and same[-1] == 1 and not same_dimensions(same, mask.shape[: len(same)]):
            same.pop()
        if not same_dimensions(same, mask.shape[: len(same)]):
            break
        mask = source
    return mask
