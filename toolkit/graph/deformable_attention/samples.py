"""Samples of a feature map's levels, joined to one tensor."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from toolkit.graph.deformable_attention.layout import Layout, side_by_side
from toolkit.graph.deformable_attention.regrouping import regrouped_by, regroups
from toolkit.graph.deformable_attention.sizes import Shape, Sizes
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


@dataclass(frozen=True)
class Samples:
    """The outputs [N, C, Q, P] of some GridSample nodes, a level each, in one tensor; N is batches times heads.

    `points` says how many, P, each level has. `layout` is that of the tensor, as a view of these outputs joined along
    their last axis: of `shape` [N, C, Q, K], with K for the points of all levels.
    """

    nodes: tuple[gs.Node, ...]
    points: tuple[int, ...]
    layout: Layout
    shape: Shape


def samples_in(tensor: gs.Tensor, sizes: Sizes) -> Samples | None:
    """The samples that a tensor consists of, None if it has other elements.

    Raises Unfit if the levels do not stand side by side in it.
    """
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or node.domain:
        return None
    if node.op == "GridSample":
        shape = sizes.known_shape(tensor)
        return Samples((node,), shape[3:], Layout.of(shape), shape) if len(shape) == 4 else None
    if node.op == "Concat":
        parts = [samples_in(part, sizes) for part in node.inputs]
        levels = [part for part in parts if part is not None]
        return concatenated(levels, node.attrs["axis"]) if len(levels) == len(parts) else None
    if regroups(node) and (samples := samples_in(node.inputs[0], sizes)):
        layout = regrouped_by(node, tensor, samples.layout, sizes)
        return Samples(samples.nodes, samples.points, layout, samples.shape)
    return None


def concatenated(parts: list[Samples], axis: int) -> Samples:
    """The samples in a Concat."""
    outer = parts[0].shape[:3]
    if any(part.shape[:3] != outer for part in parts):
        raise Unfit("the levels differ in their shape or order")
    counts = [part.shape[3] for part in parts]
    shape = (*outer, sum(counts))
    whole, starts = Layout.of(shape), accumulate(counts, initial=0)
    placed = [
        part.layout.through(whole.slice(3, start, count))
        for part, start, count in zip(parts, starts, counts, strict=False)
    ]
    return Samples(
        tuple(node for part in parts for node in part.nodes),
        tuple(points for part in parts for points in part.points),
        side_by_side(placed, axis % len(placed[0].axes)),
        shape,
    )
