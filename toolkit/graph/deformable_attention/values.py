"""The feature maps that the levels sample, as one value tensor [B, S, H, C]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit.graph.deformable_attention.arrangement import arrange
from toolkit.graph.deformable_attention.layout import Layout, merged, side_by_side
from toolkit.graph.deformable_attention.operand import Operand, by_head, easiest
from toolkit.graph.deformable_attention.sizes import Sizes
from toolkit.graph.deformable_attention.views import Path, common_sources
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def value_operands(maps: Sequence[gs.Tensor], heads: int, sizes: Sizes) -> tuple[Operand, ...]:
    """The value tensor, or if the maps [B*H, C, h, w] come from different tensors, one part of it for each level."""
    paths = [Path(level).upwards(sizes) for level in maps]

    try:
        return (value_of(paths, heads, sizes),)
    except Unfit:
        return tuple(value_of([path], heads, sizes) for path in paths)


def value_of(paths: Sequence[Path], heads: int, sizes: Sizes) -> Operand:
    """The value tensor [B, S, H, C] of some levels. Raises Unfit if they come from different tensors."""

    def operand(tensor: gs.Tensor) -> Operand:
        layout = side_by_side([keys_first(path, tensor, heads, sizes) for path in paths], 1)
        return Operand(tensor, arrange(sizes.known_shape(tensor), layout, layout.shape))

    return easiest(common_sources(paths), operand)


def keys_first(path: Path, source: gs.Tensor, heads: int, sizes: Sizes) -> Layout:
    """A map [B*H, C, h, w] as the view [B, S, H, C] of one of its sources."""
    layout = path.view(source, sizes).layout
    batch_heads, channels, rows, columns = layout.axes
    batches, own_heads = by_head(batch_heads, heads)
    return Layout((batches, merged((*rows, *columns)), own_heads, channels), layout.offset)
