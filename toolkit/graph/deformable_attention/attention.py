"""One deformable attention of a graph, as the fused node would compute it."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.graph.deformable_attention import remedies
from toolkit.graph.deformable_attention.arrangement import Arrangement, arrange
from toolkit.graph.deformable_attention.layout import Layout
from toolkit.graph.deformable_attention.locations import Locations, locations
from toolkit.graph.deformable_attention.operand import Operand
from toolkit.graph.deformable_attention.regrouping import regrouped_by, regroups
from toolkit.graph.deformable_attention.sizes import Sizes, type_name
from toolkit.graph.deformable_attention.softmax import logits_of, softmax_path
from toolkit.graph.deformable_attention.values import value_operands
from toolkit.graph.deformable_attention.views import Path
from toolkit.graph.deformable_attention.weighted_sum import WeightedSum
from toolkit.graph.unfit import Unfit, remedied

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

ATTRIBUTES = {
    "mode": (("bilinear", "linear"), "bilinear"),
    "padding_mode": (("zeros",), "zeros"),
    "align_corners": ((0,), 0),
}
"""What GridSample has to be set to, in the words of opset 16 or 20, and its default."""


@dataclass(frozen=True)
class FusedAttention:
    """The operands of the fused node, all of one `dtype`, and the tensor `result` that its output becomes."""

    spatial_shapes: tuple[int, ...]
    level_points: tuple[int, ...]
    dtype: Any
    value: tuple[Operand, ...]
    locations: Locations
    logits: Operand
    result: gs.Tensor
    arrangement: Arrangement

    @property
    def effort(self) -> int:
        """Number of nodes around the fused one."""
        operands = [*self.value, self.locations.offsets, self.logits]
        effort = sum(operand.effort for operand in operands) + self.arrangement.effort
        return effort + (self.locations.reference is None) + (len(self.value) > 1)


def attention(summed: WeightedSum, graph_outputs: Set[int], sizes: Sizes) -> FusedAttention:
    """The attention that ends in a weighted sum; `graph_outputs` are the ids of tensors that have to stay.

    Raises Unfit, saying why, if it is none that the node can compute.
    """
    with remedied(remedies.SAMPLING):
        for node in summed.samples.nodes:
            check_sampling(node)
    found, reasons = [], []
    with remedied(remedies.WEIGHTS):
        counts = head_counts(summed, sizes)
    for heads in counts:
        try:
            found.append(of_heads(summed, heads, graph_outputs, sizes))
        except Unfit as unfit:
            reasons.append(unfit)
    if not found:
        raise reasons[0]
    return min(found, key=lambda one: one.effort)


def check_sampling(node: gs.Node) -> None:
    """Raise Unfit if a GridSample samples in another way than the fused node."""
    for name, (accepted, default) in ATTRIBUTES.items():
        value = node.attrs.get(name, default)
        if value not in accepted:
            raise Unfit(f"{name} is {value!r} instead of {accepted[0]!r}")
    if node.inputs[0].dtype not in (np.float32, np.float16):
        raise Unfit(f"the samples are of type {type_name(node.inputs[0])}, neither float32 nor float16", remedies.TYPE)


def head_counts(summed: WeightedSum, sizes: Sizes) -> list[int]:
    """Numbers of heads that the regroupings suggest: dimensions on the way to the maps and to the weights."""
    batch_heads = summed.samples.shape[0]
    paths = [Path(summed.samples.nodes[0].inputs[0]).upwards(sizes), softmax_path(summed.weights, sizes)]
    shapes = [sizes.shape(tensor) or () for path in paths for tensor in path.sources]
    dimensions = [size for shape in shapes for size in reversed(shape) if size]
    return [size for size in dict.fromkeys([*dimensions, 1]) if batch_heads % size == 0]


def of_heads(summed: WeightedSum, heads: int, graph_outputs: Set[int], sizes: Sizes) -> FusedAttention:
    """The attention if it has so many heads."""
    maps, grids = zip(*(node.inputs[:2] for node in summed.samples.nodes), strict=True)
    spatial_shapes = tuple(size for level in maps for size in sizes.known_shape(level)[2:])
    with remedied(remedies.WEIGHTS):
        logits = logits_of(summed, heads, sizes)
    with remedied(remedies.VALUE):
        value = value_operands(maps, heads, sizes)
    with remedied(remedies.LOCATIONS):
        points = locations(grids, spatial_shapes, heads, sizes)
    batches, queries, *_ = logits.arrangement.shape
    channels = summed.samples.shape[1]
    dtype = np.dtype(maps[0].dtype)
    with remedied(remedies.SUM):
        result, arrangement = result_of(summed, (batches, queries, heads, channels), graph_outputs, sizes)
    level_points = summed.samples.points
    return FusedAttention(spatial_shapes, level_points, dtype, value, points, logits, result, arrangement)


def result_of(
    summed: WeightedSum, shape: tuple[int, int, int, int], graph_outputs: Set[int], sizes: Sizes
) -> tuple[gs.Tensor, Arrangement]:
    """Where the node's output of a shape [B, Q, H, C] fits in best, and what becomes of it there."""
    batches, queries, heads, channels = shape
    batch_heads = ((batches, queries * heads * channels), (heads, channels))
    of_output = Layout((batch_heads, ((channels, 1),), ((queries, heads * channels),)))
    layout = summed.result_layout.through(of_output)
    views = list(regrouped_views(summed.result, layout, graph_outputs, sizes))
    tensor, layout = next((view for view in views if view[1].is_plain), views[0])
    return tensor, arrange(shape, layout, layout.shape)


def regrouped_views(
    tensor: gs.Tensor, layout: Layout, graph_outputs: Set[int], sizes: Sizes
) -> Iterator[tuple[gs.Tensor, Layout]]:
    """A tensor and what regrouping nodes alone make of it."""
    yield tensor, layout
    while id(tensor) not in graph_outputs and len(tensor.outputs) == 1:
        [node] = tensor.outputs
        if not regroups(node) or len(node.outputs) != 1 or node.inputs[0] is not tensor:
            return
        try:
            layout = regrouped_by(node, node.outputs[0], layout, sizes)
        except Unfit:
            return
        tensor = node.outputs[0]
        yield tensor, layout
