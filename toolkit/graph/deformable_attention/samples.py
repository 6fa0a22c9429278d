"""Samples of a feature map's levels, joined to one tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.graph.deformable_attention.layout import Layout, joined
from toolkit.graph.deformable_attention.regrouping import regrouped_by, regroups
from toolkit.graph.deformable_attention.sizes import Shape, Sizes
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


@dataclass(frozen=True)
class Samples:
    """The outputs [N, C, Q, P] of some GridSample nodes, a level each, in one tensor.

    `layout` is that of the tensor, as a view of these outputs one after the other: [L, N, C, Q, P], with N for batches
    times heads.
    """

    nodes: tuple[gs.Node, ...]
    layout: Layout
    level_shape: Shape

    @property
    def shape(self) -> Shape:
        return (len(self.nodes), *self.level_shape)


def samples_in(tensor: gs.Tensor, sizes: Sizes) -> Samples | None:
    """The samples that a tensor consists of, None if it has other elements.

    Raises Unfit if the levels do not stand side by side in it.
    """
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or node.domain:
        return None
    if node.op == "GridSample":
        shape = sizes.known_shape(tensor)
        return Samples((node,), Layout.of(shape), shape) if len(shape) == 4 else None
    if node.op == "Concat":
        parts = [samples_in(part, sizes) for part in node.inputs]
        levels = [part for part in parts if part is not None]
        return concatenated(levels, node.attrs["axis"]) if len(levels) == len(parts) else None
    if regroups(node) and (samples := samples_in(node.inputs[0], sizes)):
        return Samples(samples.nodes, regrouped_by(node, tensor, samples.layout, sizes), samples.level_shape)
    return None


def concatenated(parts: list[Samples], axis: int) -> Samples:
    """The samples in a Concat."""
    first = parts[0]
    placed: list[Layout] = []
    nodes: list[gs.Node] = []
    for part in parts:
        start = len(nodes) * math.prod(first.level_shape)
        placed.append(Layout(part.layout.axes, part.layout.offset + start))
        nodes.extend(part.nodes)
    if any(part.level_shape != first.level_shape for part in parts):
        raise Unfit("the levels differ in their number of points")
    stacked = joined(placed)
    axis %= len(first.layout.axes)
    whole = (*stacked.axes[0], *stacked.axes[axis + 1])
    return Samples(tuple(nodes), stacked.drop(0).drop(axis).insert(axis, whole), first.level_shape)
