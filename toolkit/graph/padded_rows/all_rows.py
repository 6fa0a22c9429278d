"""What a site computes from padded rows, computed from all rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx

from toolkit.graph.edits import static_shape
from toolkit.graph.padded_rows.site import Padded, Site
from toolkit.graph.replacements.builder import Builder
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

Shapes = Mapping[int, tuple[int, ...]]
"""By the id of a tensor."""


def all_rows(builder: Builder, one: Site, other: Site) -> gs.Tensor:
    """The sums of a site, known for two choices of sizes, from all rows; the graph stays as it is.

    Raises Unfit if the choices differ in more than the number of rows.
    """
    if [id(node) for node in one.nodes] != [id(node) for node in other.nodes]:
        raise Unfit("what is computed depends on how many rows are selected")
    if one.results.dtype is None or not np.issubdtype(one.results.dtype, np.floating):
        raise Unfit(f"the type of {one.results.name!r} is not known to be float32, float16 or float64")
    made = {id(padded.tensor): stacked(builder, padded, one) for padded in one.padded}
    for node in one.nodes:
        repeated(builder, node, made, one, other)
    return summed(builder, made[id(one.results)], one)


def stacked(builder: Builder, padded: Padded, site: Site) -> gs.Tensor:
    """All rows of each block, [blocks…, N, …]."""
    tail = (static_shape(padded.rows[0]) or ())[1:]
    return in_blocks(builder, list(padded.rows), (*site.blocks, site.count, *tail))


def in_blocks(builder: Builder, parts: list[gs.Tensor], shape: tuple[int, ...]) -> gs.Tensor:
    """Tensors one after the other, in a shape."""
    return builder.node("Reshape", [builder.node("Concat", parts, axis=0), builder.constant(np.array(shape))])


def repeated(builder: Builder, node: gs.Node, made: dict[int, gs.Tensor], one: Site, other: Site) -> None:
    """Compute a node once more, of what was `made` in place of padded tensors, by their ids; its outputs are added."""
    inputs = [made.get(id(tensor), tensor) for tensor in node.inputs]
    if node.op in ("Reshape", "Expand"):
        inputs[1] = builder.constant(np.array(shape_of_all(node.outputs[0], one, other)))
    outputs = builder.copy(node, inputs)
    made.update((id(old), new) for old, new in zip(node.outputs, outputs, strict=True))


def shape_of_all(tensor: gs.Tensor, one: Site, other: Site) -> tuple[int, ...]:
    """The shape of a tensor when all rows are computed. Raises Unfit if it depends on something else."""
    shape = []
    shapes = (site.counted.sizes.known_shape(tensor) for site in (one, other))
    for size, second in zip(*shapes, strict=True):
        times, rest = divmod(size, one.longest)
        if size == second:
            shape.append(size)
        elif rest == 0 and second == times * other.longest:
            shape.append(times * one.count)
        else:
            raise Unfit(f"the shape of {tensor.name!r} depends on more than how many rows are selected")
    return tuple(shape)


def summed(builder: Builder, results: gs.Tensor, site: Site) -> gs.Tensor:
    """The sum over the last axis of blocks of what is computed of selected rows."""
    rank = len(site.counted.sizes.known_shape(site.results))
    masks = [builder.node("Cast", [node.inputs[0]], to=int(onnx.TensorProto.BOOL)) for node in site.selections]
    ones = [1] * (rank - len(site.blocks) - 1)
    mask = in_blocks(builder, masks, (*site.blocks, site.count, *ones))
    zero = builder.constant(np.zeros((), site.results.dtype))
    return builder.reduce("ReduceSum", builder.node("Where", [mask, results, zero]), [len(site.blocks) - 1], keep=0)
