"""The attention weights: a softmax over the points of all levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.graph.deformable_attention import remedies
from toolkit.graph.deformable_attention.arrangement import arrange
from toolkit.graph.deformable_attention.layout import Layout, merged
from toolkit.graph.deformable_attention.operand import Operand, by_head, easiest
from toolkit.graph.deformable_attention.sizes import Sizes
from toolkit.graph.deformable_attention.views import Path
from toolkit.graph.deformable_attention.weighted_sum import WeightedSum
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def logits_of(summed: WeightedSum, heads: int, sizes: Sizes) -> Operand:
    """The logits [B, Q, H, K] behind the weights. Raises Unfit if these do not come from a softmax over K."""
    path = softmax_path(summed.weights, sizes)
    softmax = path.root.inputs[0]
    check_axis(softmax, by_sample(path, path.root, summed, heads, sizes), sizes)
    inner = path.via(softmax, 0).upwards(sizes)

    def operand(tensor: gs.Tensor) -> Operand:
        layout = by_sample(inner, tensor, summed, heads, sizes)
        return Operand(tensor, arrange(sizes.known_shape(tensor), layout, layout.shape))

    return easiest(inner.sources[len(path.sources) :], operand)


def softmax_path(weights: gs.Tensor, sizes: Sizes) -> Path:
    """The way from the result of a Softmax to the weights."""
    path = Path(weights).upwards(sizes)
    if not path.root.inputs or path.root.inputs[0].op != "Softmax":
        maker = f"a {path.root.inputs[0].op} node" if path.root.inputs else "no node"
        raise Unfit(f"the weights come from {maker}, not from a Softmax over the points of all levels")
    return path


def by_sample(path: Path, source: gs.Tensor, summed: WeightedSum, heads: int, sizes: Sizes) -> Layout:
    """The weights, or the logits behind them, as a view [B, Q, H, K] of a source."""
    layout = summed.weight_layout.through(path.view(source, sizes).layout)
    batch_heads, channels, queries, points = layout.axes
    if any(stride for _, stride in merged(channels)):
        raise Unfit("the weights differ between the channels of a head")
    batches, own_heads = by_head(batch_heads, heads)
    return Layout((batches, queries, own_heads, points), layout.offset)


def check_axis(softmax: gs.Node, layout: Layout, sizes: Sizes) -> None:
    """Raise Unfit unless the axis of a Softmax, whose result has the view [B, Q, H, K], runs over just the points K."""
    shape = sizes.known_shape(softmax.outputs[0])
    axis = softmax.attrs.get("axis", -1) % len(shape)
    along = Layout.of(shape).axes[axis]
    count, points = layout.shape[3], layout.axes[3]
    steps = sorted(merged(points), key=lambda factor: -factor[1])
    if shape[axis] != count or merged(steps) != merged(along):
        reason = f"the softmax is over {shape[axis]} elements, not over the {count} points of all levels"
        raise Unfit(reason, remedies.AT_ONCE if shape[axis] > count else remedies.WEIGHTS)
