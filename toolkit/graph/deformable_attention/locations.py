"""Where the levels are sampled: reference points plus offsets, found in the arithmetic that makes the grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.graph.deformable_attention.arrangement import arrange
from toolkit.graph.deformable_attention.layout import Axis, Layout, joined, merged, side_by_side
from toolkit.graph.deformable_attention.operand import Operand, by_head, easiest
from toolkit.graph.deformable_attention.sizes import Sizes, is_constant
from toolkit.graph.deformable_attention.views import Path, common_sources
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


@dataclass(frozen=True)
class Locations:
    """Reference points, None for the origin, and offsets in cells."""

    reference: Operand | None
    offsets: Operand


def locations(grids: Sequence[gs.Tensor], spatial_shapes: Sequence[int], heads: int, sizes: Sizes) -> Locations:
    """Reference [B, Q, 1 or L, 2D] and offsets [B, Q, H, K*2] behind the grids [B*H, Q, P, 2] of the levels.

    A grid holds (x, y) from -1 to 1. Where it is not made of reference points that all heads share plus offsets, the
    reference is the origin and the offsets are the locations. Raises Unfit if the grids come from different tensors,
    unless all are constants.
    """
    if all(is_constant(grid) for grid in grids):
        return Locations(None, stored_locations(grids, spatial_shapes, heads))
    paths = [Path(grid).upwards(sizes, arithmetic=True) for grid in grids]
    for operand in (0, 1) if all(is_sum(path.root) for path in paths) else ():
        terms = [[path.via(path.root.inputs[0], index) for path in paths] for index in (operand, 1 - operand)]
        try:
            return Locations(reference_of(terms[0], heads, sizes), offsets_of(terms[1], spatial_shapes, heads, sizes))
        except Unfit:
            continue  # the other way round, or not at all
    return Locations(None, offsets_of(paths, spatial_shapes, heads, sizes))


def stored_locations(grids: Sequence[gs.Constant], spatial_shapes: Sequence[int], heads: int) -> Operand:
    """Locations in cells as one constant, of grids that were constants each: those of queries that are always alike."""
    import onnx_graphsurgeon as gs

    points = [grid.shape[2] for grid in grids]
    places = (np.concatenate([grid.values for grid in grids], 2) + 1) / 2 * cells_of(spatial_shapes, points)
    batch_heads, queries, count, pair = places.shape
    by_head = places.reshape(batch_heads // heads, heads, queries, count, pair)
    shape = (batch_heads // heads, queries, heads, count * pair)
    values = by_head.transpose(0, 2, 1, 3, 4).reshape(shape).astype(grids[0].values.dtype)
    return Operand(gs.Constant(f"{grids[0].name}/all_levels", values), arrange(shape, Layout.of(shape), shape))


def cells_of(spatial_shapes: Sequence[int], points: Sequence[int]) -> Any:
    """Width and height of the map that each point samples [K, 2], of so many points on each level."""
    return np.repeat(np.array(spatial_shapes, np.float64).reshape(-1, 2)[:, ::-1], points, axis=0)


def is_sum(tensor: gs.Tensor) -> bool:
    """Whether a tensor is the sum of two."""
    return bool(tensor.inputs) and tensor.inputs[0].op == "Add" and not tensor.inputs[0].domain


def reference_of(paths: Sequence[Path], heads: int, sizes: Sizes) -> Operand:
    """The reference points among the terms of the locations. Raises Unfit if the term is none."""
    paths = [path.upwards(sizes) for path in paths]

    def operand(tensor: gs.Tensor) -> Operand:
        views = [path.view(tensor, sizes) for path in paths]
        if any(view.fields or not np.isclose(view.factor, 2) or not np.isclose(view.shift, -1) for view in views):
            raise Unfit("a reference point is scaled or shifted")
        levels, batch_heads, queries, cycle, coordinates = joined([in_turn(view.layout) for view in views]).axes
        batches, own_heads = by_head(batch_heads, heads)
        if any(stride for _, stride in merged(own_heads)):
            raise Unfit("heads have reference points of their own")
        batches, levels = once(batches), once(levels)
        layout = Layout((batches, queries, levels, cycle, coordinates), views[0].layout.offset)
        *outer, count, pair = layout.shape
        return Operand(tensor, arrange(sizes.known_shape(tensor), layout, (*outer, count * pair)))

    return easiest(common_sources(paths), operand)


def once(axis: Axis) -> Axis:
    """An axis along which all elements are the same as one of size 1."""
    return axis if any(stride for size, stride in axis if size > 1) else ()


def in_turn(layout: Layout) -> Layout:
    """Reference points [N, Q, P, 2] of a level's points as the [N, Q, D, 2] that these use in turn.

    Raises Unfit if they do not take turns.
    """
    flat = merged(layout.axes[2])
    apart = flat[1:] if flat and flat[0][1] == 0 else flat
    if any(stride == 0 for _, stride in apart):
        raise Unfit("the points share reference points in an order of their own")
    return layout.drop(2).insert(2, apart)


def offsets_of(paths: Sequence[Path], spatial_shapes: Sequence[int], heads: int, sizes: Sizes) -> Operand:
    """The term of the locations that differs between heads, in cells. Raises Unfit if there is none."""
    paths = [path.upwards(sizes, arithmetic=True) for path in paths]

    def operand(tensor: gs.Tensor) -> Operand:
        views = [path.view(tensor, sizes) for path in paths]
        together = side_by_side([view.layout for view in views], 2)
        batch_heads, queries, points, coordinates = together.axes
        layout = Layout((*by_head(batch_heads, heads), queries, points, coordinates), together.offset)
        layout = layout.transpose([0, 2, 1, 3, 4])
        *outer, count, pair = layout.shape
        shape = (*outer, count * pair)
        counts = [view.layout.shape[2] for view in views]
        cells = cells_of(spatial_shapes, counts)
        scale = np.concatenate([view.scale((2, 3)) for view in views]) / 2 * cells
        shift = (np.repeat([view.shift for view in views], counts)[:, None] + 1) / 2 * cells
        return Operand(
            tensor,
            arrange(sizes.known_shape(tensor), layout, shape),
            None if np.allclose(scale, 1, rtol=1e-6) else scale.reshape(-1),
            None if np.allclose(shift, 0, atol=1e-6) else shift.reshape(-1),
        )

    return easiest(common_sources(paths), operand)
