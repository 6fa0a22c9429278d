"""Masks instead of positions: ``x[mask]`` as a tensor of fixed shape.

Exporters write indexing by a mask as NonZero, which gives the positions where it holds, with GatherND or ScatterND. The
number of positions depends on the data; TensorRT for RTX has no NonZero, and TensorRT allocates anew when the number
changes. Where the selected rows are only transformed one by one, and then put back or reduced, the same follows from
all rows and a Where.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from toolkit.graph.edits import Rewiring, graph_and_inner, input_constant, is_standard, same_dimensions
from toolkit.graph.graph_pass import Change, GraphPass, NearMiss, Outcome
from toolkit.graph.replacements.builder import Builder
from toolkit.graph.replacements.selection import Unproven, base_mask, dense_of, positions_mask
from toolkit.graph.unused import remove_unused

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

NEUTRAL = {"ReduceSum": 0.0, "ReduceMean": 0.0, "ReduceMax": -np.inf, "ReduceMin": np.inf}
"""What a reduction may meet besides without effect."""
REFILLS = ("Reshape", "Expand", "Slice", "Squeeze", "Unsqueeze", "Identity")
"""What exporters put between the new values and ScatterND, to give them the shape of the positions."""


def apply(graph: gs.Graph) -> Outcome:
    """Replace each use of the positions that allows it; near misses are the NonZero nodes that remain in use."""
    changes: list[Change] = []
    reasons: dict[int, str] = {}
    for rewrites in (REWRITES, COUNTS):
        for part in graph_and_inner(graph):
            rewiring = Rewiring(part)
            for node in list(part.nodes):
                rewrite = rewrites.get(node.op) if is_standard(node) else None
                if rewrite is None:
                    continue
                builder = Builder(part, node.name)
                try:
                    result = rewrite(builder, node)
                except Unproven as reason:
                    reasons[id(reason.mask)] = f"{node.op} {node.name!r}: {reason}"
                    continue
                if result is not None:
                    rewiring.take_over(node, result)
                    part.nodes.extend(builder.nodes)
                    changes.append(Change(node.name, f"{node.op} at positions is now by mask"))
        remove_unused(graph)
    remaining = [node for part in graph_and_inner(graph) for node in part.nodes if is_standard(node, "NonZero")]
    misses = [
        NearMiss(node.name, reasons.get(id(node.inputs[0]), "its positions are used as such")) for node in remaining
    ]
    return Outcome(tuple(changes), tuple(misses))


def scatter(builder: Builder, node: gs.Node) -> gs.Tensor | None:
    """``x[mask] = values`` as a Where; None if the positions are no mask's."""
    x, positions, values = node.inputs
    mask = positions_mask(positions)
    if mask is None or node.attrs.get("reduction", "none") != "none":
        return None
    if mask.shape is None or x.shape is None or not same_dimensions(mask.shape, x.shape[: len(mask.shape)]):
        raise Unproven(mask, f"a mask {mask.shape} on {x.shape}")
    condition = builder.trailing(mask, len(x.shape) - len(mask.shape))
    refilled = values
    ops = set()
    while refilled.inputs and is_standard(refilled.inputs[0], *REFILLS):
        ops.add(refilled.inputs[0].op)
        if starts_late(refilled.inputs[0]):
            raise Unproven(mask, "its values are cut from the middle of others")
        refilled = refilled.inputs[0].inputs[0]
    single = single_value(refilled)
    if single is not None:
        return builder.node("Where", [condition, single, x])
    try:
        chosen, dense = dense_of(builder, refilled)
    except Unproven as reason:
        raise Unproven(mask, str(reason)) from reason
    if base_mask(mask) is not base_mask(chosen):
        raise Unproven(mask, "its values are selected by another mask")
    if not same_dimensions(dense.shape, x.shape):
        raise Unproven(mask, f"values from {dense.shape} go to {x.shape}")
    if {"Expand", "Slice"} <= ops:
        raise Unproven(mask, "its values are repeated and cut")
    return builder.node("Where", [condition, dense, x])


def starts_late(node: gs.Node) -> bool:
    """Whether a slice may skip elements at the start or between."""
    if node.op != "Slice":
        return False
    starts, steps = input_constant(node, 1), input_constant(node, 4) if len(node.inputs) > 4 else np.ones(1)
    return starts is None or steps is None or bool(starts.any()) or bool((steps != 1).any())


def single_value(tensor: gs.Tensor) -> gs.Tensor | None:
    """A tensor of a single element that Where can spread."""
    shape = tensor.shape
    return tensor if shape is not None and all(size == 1 for size in shape) and len(shape) < 2 else None


def reduction(builder: Builder, node: gs.Node) -> gs.Tensor | None:
    """A sum, mean, maximum or minimum over selected rows as one over all; None if its input is no selection."""
    try:
        mask, dense = dense_of(builder, node.inputs[0])
    except Unproven as reason:
        if reason.mask is None:
            return None
        raise
    axes = reduced_axes(node)
    selected = len(dense.shape) - len(mask.shape) + 1
    axes = sorted(axis % selected for axis in axes) if axes else list(range(selected))
    if 0 not in axes or node.attrs.get("noop_with_empty_axes", 0):
        raise Unproven(mask, "it is not over the selected rows")
    if dense.dtype is None or not np.issubdtype(dense.dtype, np.floating):
        raise Unproven(mask, f"it reduces {dense.dtype}")
    neutral = builder.constant(np.array(NEUTRAL[node.op], dense.dtype))
    condition = builder.trailing(mask, len(dense.shape) - len(mask.shape))
    masked = builder.node("Where", [condition, dense, neutral])
    over = [*range(len(mask.shape)), *(axis + len(mask.shape) - 1 for axis in axes[1:])]
    keep = node.attrs.get("keepdims", 1)
    result = builder.reduce("ReduceSum" if node.op == "ReduceMean" else node.op, masked, over, keep)
    if node.op == "ReduceMean":
        each = np.array(1, dense.dtype)
        for axis in axes[1:]:
            size = dense.shape[axis + len(mask.shape) - 1]
            if not isinstance(size, int):
                raise Unproven(mask, f"it takes the mean over an open dimension, {size!r}")
            each = np.array(each * size, dense.dtype)
        count = builder.node("Cast", [builder.count(mask)], to=onnx.helper.np_dtype_to_tensor_dtype(dense.dtype))
        # ONNX leaves the mean of nothing undefined; ONNX Runtime takes 0.
        count = builder.node("Max", [count, builder.constant(np.array(1, dense.dtype))])
        result = builder.node("Div", [result, builder.node("Mul", [count, builder.constant(each)])])
    if keep and len(mask.shape) > 1:
        result = builder.node("Squeeze", [result, builder.constant(np.arange(1, len(mask.shape)))])
    return result


def reduced_axes(node: gs.Node) -> list[int]:
    """Axes of a reduction, an attribute or an input according to the opset; none for all."""
    axes = node.attrs.get("axes")
    if axes is None and len(node.inputs) > 1 and not node.inputs[1].is_empty():
        given = input_constant(node, 1)
        if given is None:
            raise Unproven(None, "its axes are not constant")
        axes = given.tolist()
    return list(axes or [])


def number(builder: Builder, node: gs.Node) -> gs.Tensor | None:
    """The shape of the positions from a count of the mask; None for any other shape, or if they are needed anyway."""
    positions = node.inputs[0]
    mask = positions_mask(positions)
    needed = any(not is_standard(user, "Shape") for user in positions.outputs)
    if mask is None or needed or mask.shape is None or len(positions.shape or ()) != 2:
        return None
    rank = builder.constant(np.array([len(mask.shape)]))
    count = builder.node("Unsqueeze", [builder.count(mask), builder.constant(np.zeros(1, np.int64))])
    both = builder.node("Concat", [count, rank], axis=0)
    bounds = [np.array([node.attrs.get("start", 0)]), np.array([node.attrs.get("end", 2)])]
    return builder.node("Slice", [both, *(builder.constant(bound) for bound in bounds)])


REWRITES = {"ScatterND": scatter, **dict.fromkeys(NEUTRAL, reduction)}
COUNTS = {"Shape": number}
"""Worth while only where the positions are not needed any more otherwise."""

MASK_INSTEAD_OF_POSITIONS = GraphPass(
    "mask-instead-of-positions",
    "NonZero makes shapes depend on the data: TensorRT for RTX has none, and TensorRT stalls when the number changes.",
    apply,
)
