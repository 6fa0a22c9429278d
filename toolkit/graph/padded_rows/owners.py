"""Which row of a padded tensor each element of another was computed from, and that it is from one alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx.reference import ReferenceEvaluator

from toolkit.graph.deformable_attention.sizes import Sizes, node_message
from toolkit.graph.edits import input_constant
from toolkit.graph.replacements.selection import BROADCASTING, ROW_BY_ROW
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

Owners = Any
"""An integer array of a tensor's shape: the number of the row that each element was computed from."""

MOVES = frozenset(
    ("Concat", "Expand", "Flatten", "Gather", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
)
COUNTS = ("ConstantOfShape", "NonZero", "Range", "Shape", "Size")
SHAPED = ("Expand", "Reshape")
"""Moves whose second input is a shape, which may tell how many rows there are."""
REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2")


@dataclass(frozen=True)
class Tracer:
    """Finds owners backwards from a tensor, for one choice of `sizes`.

    `dependent` are the ids of all tensors that depend on which rows are selected. `block_axes` says of a padded tensor
    [blocks…, rows, …] how many axes are blocks, and of any other None; `starts` collects those that were found, `nodes`
    the nodes between them and the tensor in running order, by their ids.
    """

    sizes: Sizes
    dependent: Set[int]
    block_axes: Callable[[gs.Tensor], int | None]
    starts: dict[int, gs.Tensor] = field(default_factory=dict)
    nodes: dict[int, gs.Node] = field(default_factory=dict)
    _known: dict[int, Owners] = field(default_factory=dict)

    def owners(self, tensor: gs.Tensor) -> Owners | None:
        """The owners of a tensor's elements, None for one that does not depend on which rows are selected.

        Raises Unfit if an element may be computed from several rows, or from how many there are.
        """
        if id(tensor) not in self.dependent:
            return None
        if id(tensor) not in self._known:
            axes = self.block_axes(tensor)
            if axes is not None:
                self.starts[id(tensor)] = tensor
                self._known[id(tensor)] = numbered(self.sizes.known_shape(tensor), axes + 1)
            elif not tensor.inputs:
                raise Unfit(f"{tensor.name!r} is made outside the graph")
            else:
                [node] = tensor.inputs
                self._known[id(tensor)] = self.made(node, tensor)
                self.nodes.setdefault(id(node), node)
        return self._known[id(tensor)]

    def made(self, node: gs.Node, tensor: gs.Tensor) -> Owners:
        """The owners of one output of a node."""
        if not node.domain and node.op in MOVES:
            return self.moved(node, tensor)
        if not node.domain and node.op in COUNTS:
            raise Unfit(
                f"{node.op} {node.name!r} depends on how many rows are selected, and a value is computed from it"
            )
        rule = None if node.domain else RULES.get(node.op)
        if rule is None or tensor is not node.outputs[0]:
            raise Unfit(f"{node.op} {node.name!r} is not known to compute row by row")
        given = [None if each.is_empty() else self.owners(each) for each in node.inputs]
        shapes = [() if each.is_empty() else self.sizes.known_shape(each) for each in node.inputs]
        try:
            result = rule(node, given, shapes)
        except ValueError as error:  # shapes that broadcast for one number of rows alone
            raise Unfit(f"{node.op} {node.name!r} does not suit every number of rows") from error
        if result is None:
            raise Unfit(f"{node.op} {node.name!r} mixes the rows")
        return result

    def moved(self, node: gs.Node, tensor: gs.Tensor) -> Owners:
        """The owners after a node that only moves elements, which moves theirs as well."""
        data = node.inputs if node.op == "Concat" else node.inputs[:1]
        values = {each.name: self.owners(each) for each in data}
        if any(owner is None for owner in values.values()):
            raise Unfit(f"{node.op} {node.name!r} joins rows with what does not depend on them")
        for each in node.inputs[len(data) :]:
            if each.is_empty():
                continue
            if id(each) in self.dependent and node.op not in SHAPED:
                raise Unfit(f"{node.op} {node.name!r} depends on how many rows are selected")
            values[each.name] = self.sizes.value(each)
            if values[each.name] is None:
                raise Unfit(f"{node.op} {node.name!r} depends on data")
        try:
            results = ReferenceEvaluator(node_message(node)).run(None, values)
        except Exception as error:  # the chosen numbers of rows need not suit the node, which can then fail in any way
            raise Unfit(f"{node.op} {node.name!r} does not suit every number of rows") from error
        return next(result for made, result in zip(node.outputs, results, strict=True) if made is tensor)


def numbered(shape: Sequence[int], axes: int) -> Owners:
    """The owners in a padded tensor whose first `axes` axes are blocks and rows."""
    rows = np.arange(np.prod(shape[:axes], dtype=np.int32), dtype=np.int32).reshape(
        *shape[:axes], *([1] * (len(shape) - axes))
    )
    return np.broadcast_to(rows, shape)


def by_element(node: gs.Node, given: Sequence[Owners | None], shapes: Sequence[Sequence[int]]) -> Owners | None:
    """Element by element, with broadcasting."""
    shape = np.broadcast_shapes(*shapes)
    return agreed([np.broadcast_to(owners, shape) for owners in given if owners is not None])


def agreed(owners: Sequence[Owners]) -> Owners | None:
    """Owners that all have in common, None if they differ."""
    return owners[0] if all(np.array_equal(owners[0], other) for other in owners[1:]) else None


def along(owners: Owners, axes: tuple[int, ...]) -> Owners | None:
    """The owner that all elements along some axes have in common, which keep size 1; None if they differ."""
    least = owners.min(axis=axes, keepdims=True)
    return least if (owners == least).all() else None


def reduced(node: gs.Node, given: Sequence[Owners | None], shapes: Sequence[Sequence[int]]) -> Owners | None:
    """A reduction along axes that one row has for itself."""
    axes = node.attrs.get("axes")
    if axes is None and len(node.inputs) > 1:
        axes = input_constant(node, 1)
    if axes is None or given[0] is None:
        return None
    places = tuple(int(axis) % len(shapes[0]) for axis in axes)
    common = along(given[0], places)
    return common if common is None or node.attrs.get("keepdims", 1) else common.squeeze(places)


def normalized(node: gs.Node, given: Sequence[Owners | None], shapes: Sequence[Sequence[int]]) -> Owners | None:
    """A softmax along one axis, or a layer normalization along the last ones."""
    axis, rank = node.attrs.get("axis", -1) % len(shapes[0]), len(shapes[0])
    axes = (axis,) if node.op in ("Softmax", "LogSoftmax") else tuple(range(axis, rank))
    if given[0] is None or any(owners is not None for owners in given[1:]) or along(given[0], axes) is None:
        return None
    return given[0]


def multiplied(node: gs.Node, given: Sequence[Owners | None], shapes: Sequence[Sequence[int]]) -> Owners | None:
    """A product of matrices, contracted along what one row has for itself."""
    if min(map(len, shapes)) < 2:
        return None
    shape = (*np.broadcast_shapes(*(each[:-2] for each in shapes)), shapes[0][-2], shapes[1][-1])
    factors = [None if owners is None else along(owners, (axis,)) for owners, axis in zip(given, (-1, -2), strict=True)]
    if any(owners is not None and factor is None for owners, factor in zip(given, factors, strict=True)):
        return None
    return agreed([np.broadcast_to(factor, shape) for factor in factors if factor is not None])


def sampled(node: gs.Node, given: Sequence[Owners | None], shapes: Sequence[Sequence[int]]) -> Owners | None:
    """Samples [N, C, H, W] of maps that all rows share, at the places [N, H, W, 2] of a grid."""
    maps, grid = given
    places = None if maps is not None or grid is None else along(grid, (-1,))
    if places is None or len(shapes[0]) != 4:
        return None
    batch, height, width, _ = shapes[1]
    return np.broadcast_to(places[:, None, :, :, 0], (batch, shapes[0][1], height, width))


Rule = Callable[["gs.Node", Sequence[Owners | None], Sequence[Sequence[int]]], Owners | None]
RULES: Mapping[str, Rule] = {
    **dict.fromkeys((*ROW_BY_ROW, *BROADCASTING, "Sum", "Mean"), by_element),
    **dict.fromkeys(REDUCTIONS, reduced),
    **dict.fromkeys(("Softmax", "LogSoftmax", "LayerNormalization"), normalized),
    "MatMul": multiplied,
    "GridSample": sampled,
}
"""How owners follow from those of the inputs, by operator; None if an element is computed from several rows."""
