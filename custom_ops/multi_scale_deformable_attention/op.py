"""Fused multi-scale deformable attention (Zhu et al. 2021, equation 3).

Raw offsets and attention logits go in; the softmax over levels and points and the location arithmetic
are part of the op.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from toolkit.errors import InputError
from toolkit.ops.cuda import ALIGNMENT, launch_on
from toolkit.ops.kernel import SCALAR_BYTES, SCALARS, Kernel, Launch, Shapes, ceil_div
from toolkit.ops.spec import Attributes, CustomOp


@torch.library.custom_op("uniad::multi_scale_deformable_attention", mutates_args=())
def multi_scale_deformable_attention(
    value: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor, spatial_shapes: Sequence[int]
) -> Tensor:
    """Sample `value` bilinearly (zeros outside) around the reference points and take the weighted sum.

    With B batches, S keys of all levels, H heads, C channels per head, Q queries, L levels, P points and
    D reference points per query (point p uses reference p mod D):

    value [B, S, H, C]; reference [B, Q, 1, 2D] as (x, y) in [0, 1], or [B, Q, L, 2D] with one for each level, either
    with one batch for all; offsets [B, Q, H, L*P*2] in cells of their level; logits [B, Q, H, L*P]; spatial_shapes
    h0, w0, h1, w1 … -> [B, Q, H, C].
    """
    batch, _, heads, channels = value.shape
    reference_batch, queries, reference_levels, coordinates = reference.shape
    levels, references = len(spatial_shapes) // 2, coordinates // 2
    points = logits.shape[3] // levels
    by_level = offsets.reshape(batch, queries, heads, levels, points // references, references, 2)
    sizes = offsets.new_tensor(spatial_shapes).view(levels, 1, 1, 2).flip(-1)
    reference = reference.reshape(reference_batch, queries, 1, reference_levels, 1, references, 2)
    grids = (2 * (reference + by_level / sizes) - 1).reshape(batch, queries, heads, levels, points, 2)
    grids = grids.permute(3, 0, 2, 1, 4, 5).flatten(1, 2)
    weights = logits.softmax(-1).transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    sampled, start = [], 0
    for level in range(levels):
        height, width = spatial_shapes[2 * level : 2 * level + 2]
        plane = value[:, start : start + height * width].permute(0, 2, 3, 1).reshape(-1, channels, height, width)
        sampled.append(grid_sample(plane, grids[level], mode="bilinear", padding_mode="zeros", align_corners=False))
        start += height * width
    summed = (torch.cat(sampled, -1) * weights).sum(-1)
    return summed.view(batch, heads, channels, queries).permute(0, 3, 1, 2).contiguous()


def output_shape(shapes: Shapes, attributes: Attributes) -> Sequence[int]:
    """Batches, heads and channels of the value, queries of the reference points."""
    (batch, _, heads, channels), (_, queries, *_), *_ = shapes
    return batch, queries, heads, channels


@multi_scale_deformable_attention.register_fake
def _(value: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor, spatial_shapes: Sequence[int]) -> Tensor:
    return value.new_empty(output_shape([value.shape, reference.shape], {}))


def body(attributes: Attributes) -> str:
    """One GridSample per level, then the softmax-weighted sum over levels and points.

    GridSample has no mode: bilinear is its default, under a name that changed with opset 20.
    """
    levels = range(len(attributes["spatial_shapes"]) // 2)
    sampled = "\n".join(
        f"""
        level{i} = Constant <value_int: int = {i}> ()
        level{i}_keys = Transpose <perm: ints = [0, 2, 3, 1]> (level{i}_value)
        level{i}_hw = Gather (table, level{i})
        level{i}_plane = Concat <axis: int = 0> (batch_heads, channels, level{i}_hw)
        level{i}_map = Reshape <allowzero: int = 1> (level{i}_keys, level{i}_plane)
        level{i}_grid = Gather (grids, level{i})
        sampled{i} = GridSample <padding_mode: string = "zeros"> (level{i}_map, level{i}_grid)
        """
        for i in levels
    )
    split_values = ", ".join(f"level{i}_value" for i in levels)
    all_sampled = ", ".join(f"sampled{i}" for i in levels)
    return f"""
    <domain: "uniad", opset_import: ["" : 18]>
    MultiScaleDeformableAttention <spatial_shapes> (value, reference, offsets, logits) => (output)
    {{
        shapes = Constant <value_ints: ints = @spatial_shapes> ()
        zero = Constant <value_int: int = 0> ()
        one = Constant <value_int: int = 1> ()
        one_int = Constant <value_ints: ints = [1]> ()
        two_int = Constant <value_ints: ints = [2]> ()
        one_zero = Constant <value_ints: ints = [1, 0]> ()
        last = Constant <value_ints: ints = [-1]> ()
        one_float = Constant <value_float: float = 1.0> ()
        two_float = Constant <value_float: float = 2.0> ()
        unit = CastLike (one_float, value)
        two = CastLike (two_float, value)
        rows = Concat <axis: int = 0> (last, two_int)
        table = Reshape (shapes, rows)
        heights = Gather <axis: int = 1> (table, zero)
        widths = Gather <axis: int = 1> (table, one)
        areas = Mul (heights, widths)
        levels = Shape (areas)
        batch = Shape <start: int = 0, end: int = 1> (value)
        heads = Shape <start: int = 2, end: int = 3> (value)
        channels = Shape <start: int = 3, end: int = 4> (value)
        reference_batch = Shape <start: int = 0, end: int = 1> (reference)
        queries = Shape <start: int = 1, end: int = 2> (reference)
        reference_levels = Shape <start: int = 2, end: int = 3> (reference)
        coordinates = Shape <start: int = 3, end: int = 4> (reference)
        samples = Shape <start: int = 3, end: int = 4> (logits)
        batch_heads = Mul (batch, heads)
        references = Div (coordinates, two_int)
        points = Div (samples, levels)
        repeats = Div (points, references)
        reference_shape = Concat <axis: int = 0>
            (reference_batch, queries, one_int, reference_levels, one_int, references, two_int)
        reference7 = Reshape <allowzero: int = 1> (reference, reference_shape)
        offset_shape = Concat <axis: int = 0> (batch, queries, heads, levels, repeats, references, two_int)
        offsets7 = Reshape <allowzero: int = 1> (offsets, offset_shape)
        size_shape = Concat <axis: int = 0> (levels, one_int, one_int, two_int)
        widths_heights = Gather <axis: int = 1> (table, one_zero)
        sizes = Reshape (widths_heights, size_shape)
        sizes_like = CastLike (sizes, value)
        shifts = Div (offsets7, sizes_like)
        locations = Add (reference7, shifts)
        doubled = Mul (locations, two)
        centred = Sub (doubled, unit)
        centred_shape = Concat <axis: int = 0> (batch, queries, heads, levels, points, two_int)
        centred6 = Reshape <allowzero: int = 1> (centred, centred_shape)
        by_level = Transpose <perm: ints = [3, 0, 2, 1, 4, 5]> (centred6)
        grid_shape = Concat <axis: int = 0> (levels, batch_heads, queries, points, two_int)
        grids = Reshape <allowzero: int = 1> (by_level, grid_shape)
        {split_values} = Split <axis: int = 1> (value, areas)
        {sampled}
        samples_all = Concat <axis: int = -1> ({all_sampled})
        weights = Softmax <axis: int = -1> (logits)
        weights_heads = Transpose <perm: ints = [0, 2, 1, 3]> (weights)
        weight_shape = Concat <axis: int = 0> (batch_heads, one_int, queries, samples)
        weights4 = Reshape <allowzero: int = 1> (weights_heads, weight_shape)
        weighted = Mul (samples_all, weights4)
        summed = ReduceSum <keepdims: int = 0> (weighted, last)
        output_shape = Concat <axis: int = 0> (batch, heads, channels, queries)
        by_head = Reshape <allowzero: int = 1> (summed, output_shape)
        output = Transpose <perm: ints = [0, 3, 1, 2]> (by_head)
    }}
    """


def example() -> tuple[Tensor, Tensor, Tensor, Tensor, list[int]]:
    """Five queries of two heads with four points each on a map of 3x4 cells, partly outside."""
    random = torch.Generator().manual_seed(0)
    value, reference = torch.rand(1, 12, 2, 4, generator=random), torch.rand(1, 5, 1, 2, generator=random)
    offsets, logits = torch.randn(1, 5, 2, 8, generator=random), torch.randn(1, 5, 2, 4, generator=random)
    return value, reference, offsets, logits, [3, 4]


LINE_BYTES = 128
"""Of the L1 cache."""

STAGED_BYTES = 16 << 10
"""Maps up to this size are copied into shared memory."""

LARGE_BYTES = 1 << 20
"""Maps from this size on exceed the L1 cache several times over."""

FEW_GROUPS = 1 << 14
"""Groups of threads up to this number all run at once, with many registers each, on a large GPU."""


@dataclass(frozen=True)
class LaunchShape:
    """How a kind of call is spread over threads.

    Threads of a block, blocks that a multiprocessor must have registers for, points whose corners are loaded together,
    columns of a block's patch in the grid of queries (1: no patch), and whether the map is prefetched.
    """

    threads: int
    blocks: int
    unroll: int
    strip: int = 1
    prefetch: bool = False


STAGED = LaunchShape(threads=128, blocks=8, unroll=2)
LARGE = LaunchShape(threads=256, blocks=4, unroll=2, strip=4)
FEW = LaunchShape(threads=64, blocks=1, unroll=4)
MANY = {
    "float32": LaunchShape(threads=64, blocks=1, unroll=4, prefetch=True),
    "float16": LaunchShape(threads=128, blocks=10, unroll=4, prefetch=True),
}


def check_sizes(shapes: Shapes, spatial_shapes: Sequence[int]) -> None:
    """Raise InputError unless the kernel finds in the inputs all that it reads."""
    (batch, keys, *_), (reference_batch, _, reference_levels, _), *_ = shapes
    sizes = list(zip(spatial_shapes[::2], spatial_shapes[1::2], strict=True))
    if keys != sum(height * width for height, width in sizes):
        raise InputError(f"deformable attention has {keys} keys, but the levels of spatial_shapes {sizes} hold others")
    if reference_batch not in (1, batch) or reference_levels not in (1, len(sizes)):
        raise InputError(
            f"reference points of {reference_batch} batches and {reference_levels} levels do not fit to a value "
            f"of {batch} batches and {len(sizes)} levels"
        )


def plan(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
    """Lanes of 16 bytes each cover a head's channels; a block serves neighbouring queries of one batch and a few heads.

    The launch shapes are the fastest of some hundred measured on an H100 for each size of UniAD's calls.
    """
    (batch, keys, heads, channels), (reference_batch, queries, reference_levels, coordinates), _, (*_, samples) = shapes
    spatial_shapes = attributes["spatial_shapes"]
    check_sizes(shapes, spatial_shapes)
    row_bytes = channels * SCALAR_BYTES[dtype]
    vector = math.gcd(channels, 16 // SCALAR_BYTES[dtype])
    lanes = min(32, 1 << (channels // vector - 1).bit_length())
    together = math.gcd(heads, 1 << max(1, LINE_BYTES // row_bytes).bit_length() - 1)
    staged = row_bytes % 16 == 0 and row_bytes <= LINE_BYTES and keys * row_bytes <= STAGED_BYTES
    if staged:
        shape = STAGED
        lanes = min(lanes, 4)  # half as many threads repeat the work per point; shared memory serves half rows as fast
    elif keys * row_bytes * together >= LARGE_BYTES:
        shape = LARGE
    else:
        shape = FEW if batch * queries * heads <= FEW_GROUPS else MANY[dtype]
    macros: dict[str, str | int] = {
        "SCALAR": SCALARS[dtype],
        "VECTOR": vector,
        "LANES": lanes,
        "THREADS": shape.threads,
        "BLOCKS": shape.blocks,
        "HEADS": heads,
        "HEADS_TOGETHER": together,
        "CHANNELS": channels,
        "LEVELS": len(spatial_shapes) // 2,
        "POINTS": 2 * samples // len(spatial_shapes),
        "REFERENCES": coordinates // 2,
        "REFERENCE_LEVELS": reference_levels,
        "SHAPES": ",".join(map(str, spatial_shapes)),
        "UNROLL": shape.unroll,
        "STRIP": shape.strip,
        "PREFETCH": int(shape.prefetch),
        "STAGED_KEYS": keys if staged else 0,
    }
    _, reference_stride, offsets_stride, logits_stride = (stride[0] for stride in strides)
    grid = (ceil_div(queries, shape.threads // lanes // together), heads // together, batch)
    integers = (keys, queries, reference_batch, reference_stride, offsets_stride, logits_stride)
    return Launch(macros, integers, grid, shape.threads)


KERNEL = Kernel(Path(__file__).with_name("kernel.cu"), "multi_scale_deformable_attention", plan)
MULTI_SCALE_DEFORMABLE_ATTENTION = CustomOp(
    "MultiScaleDeformableAttention", multi_scale_deformable_attention, body, KERNEL, example, output_shape
)


@multi_scale_deformable_attention.register_kernel("cuda")
def _(value: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor, spatial_shapes: Sequence[int]) -> Tensor:
    output = value.new_empty(output_shape([value.shape, reference.shape], {}))
    inputs = (value.contiguous(), *(dense_rows(x) for x in (reference, offsets, logits)))
    return launch_on(KERNEL, inputs, output, spatial_shapes=spatial_shapes)


def dense_rows(x: Tensor) -> Tensor:
    """`x`, copied unless each batch is contiguous and aligned; batches may lie anywhere, or be one and the same."""
    return x if x[:1].is_contiguous() and x.stride(0) * x.itemsize % ALIGNMENT == 0 else x.contiguous()
