"""Standard operators that TensorRT lacks, written by such as it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from toolkit.graph.edits import Rewiring, graph_and_inner, input_constant, is_standard
from toolkit.graph.graph_pass import Change, GraphPass, NearMiss, Outcome
from toolkit.graph.replacements.builder import Builder

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

LAST = -1


def apply(graph: gs.Graph) -> Outcome:
    """Replace each such node whose shape is known."""
    changes, near_misses = [], []
    for part in graph_and_inner(graph):
        rewiring = Rewiring(part)
        for node in list(part.nodes):
            write = OPERATORS.get(node.op) if is_standard(node) else None
            if write is None:
                continue
            builder = Builder(part, node.name)
            result = write(builder, node)
            if result is None:
                shapes = ", ".join(str(tensor.shape) for tensor in node.inputs)
                near_misses.append(NearMiss(node.name, f"{node.op} of {shapes} is not covered"))
                continue
            rewiring.take_over(node, result)
            part.nodes.extend(builder.nodes)
            changes.append(Change(node.name, f"{node.op} written by {len(builder.nodes)} nodes"))
    return Outcome(tuple(changes), tuple(near_misses))


def determinant(builder: Builder, node: gs.Node) -> gs.Tensor | None:
    """``Det`` of 2x2 or 3x3 matrices: the first row times its cofactors."""
    [matrix] = node.inputs
    size = matrix.shape[LAST] if matrix.shape else None
    if size not in (2, 3) or matrix.dtype is None:
        return None
    first, *others = (row(builder, matrix, index) for index in range(size))
    if size == 2:
        signs = builder.constant(np.array([1, -1], matrix.dtype))
        cofactors = builder.node("Mul", [permuted(builder, others[0], [1, 0]), signs])
    else:
        one, two = ([permuted(builder, other, order) for order in ([1, 2, 0], [2, 0, 1])] for other in others)
        products = [builder.node("Mul", [one[index], two[1 - index]]) for index in (0, 1)]
        cofactors = builder.node("Sub", products)
    return builder.reduce("ReduceSum", builder.node("Mul", [first, cofactors]), [LAST], keep=0)


def row(builder: Builder, matrix: gs.Tensor, index: int) -> gs.Tensor:
    """One row [..., N] of matrices [..., N, N]."""
    return builder.node("Gather", [matrix, builder.constant(np.array(index))], axis=-2)


def permuted(builder: Builder, rows: gs.Tensor, order: list[int]) -> gs.Tensor:
    """Rows with their columns in another order."""
    return builder.node("Gather", [rows, builder.constant(np.array(order))], axis=LAST)


def affine_grid(builder: Builder, node: gs.Node) -> gs.Tensor | None:
    """``AffineGrid`` of images [N, C, H, W] of constant size: the pixel centres (x, y, 1) times the matrices."""
    theta, sizes = node.inputs[0], input_constant(node, 1)
    if sizes is None or sizes.size != 4 or theta.dtype is None:
        return None
    batch, _, height, width = (int(size) for size in sizes)
    x, y = (centres(count, aligned=bool(node.attrs.get("align_corners", 0))) for count in (width, height))
    points = np.stack([*np.meshgrid(x, y), np.ones((height, width))], LAST).reshape(1, -1, 3).astype(theta.dtype)
    columns = builder.node("Transpose", [theta], perm=[0, 2, 1])
    flat = builder.node("MatMul", [builder.constant(points), columns])
    return builder.node("Reshape", [flat, builder.constant(np.array([batch, height, width, 2]))])


def centres(count: int, *, aligned: bool) -> np.ndarray:
    """Coordinates of the pixels along an axis that runs from -1 to 1, or if aligned of whose centres it does."""
    steps = np.arange(count)
    if aligned:
        return 2 * steps / max(count - 1, 1) - 1
    return (2 * steps + 1) / count - 1


OPERATORS: Mapping[str, Callable[[Builder, gs.Node], gs.Tensor | None]] = {
    "Det": determinant,
    "AffineGrid": affine_grid,
}

REPLACE_MISSING_OPERATORS = GraphPass(
    "replace-missing-operators",
    "TensorRT has neither Det nor AffineGrid; for small matrices and images of fixed size, a few of its own nodes do.",
    apply,
)
