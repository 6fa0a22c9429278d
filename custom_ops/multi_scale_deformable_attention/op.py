"""Fused multi-scale deformable attention (Zhu et al. 2021, equation 3).

Raw offsets and attention logits go in; the softmax over levels and points and the location arithmetic
are part of the op.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from toolkit.ops.cuda import launch_on
from toolkit.ops.kernel import SCALAR_BYTES, SCALARS, Kernel, Launch, Shapes
from toolkit.ops.spec import Attributes, CustomOp


@torch.library.custom_op("uniad::multi_scale_deformable_attention", mutates_args=())
def multi_scale_deformable_attention(
    value: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor, spatial_shapes: Sequence[int]
) -> Tensor:
    """Sample `value` bilinearly (zeros outside) around the reference points and take the weighted sum.

    With B batches, S keys of all levels, H heads, C channels per head, Q queries, L levels, P points and
    D reference points per query (point p uses reference p mod D):

    value [B, S, H, C]; reference [B, Q, 1, 2D] as (x, y) in [0, 1]; offsets [B, Q, H, L*P*2] in cells of
    their level; logits [B, Q, H, L*P]; spatial_shapes h0, w0, h1, w1 … -> [B, Q, H, C].
    """
    batch, _, heads, channels = value.shape
    queries, levels = reference.shape[1], len(spatial_shapes) // 2
    points, references = logits.shape[3] // levels, reference.shape[3] // 2
    offsets = offsets.view(batch, queries, heads, levels, points // references, references, 2)
    reference = reference.view(batch, queries, 1, 1, references, 2)
    weights = logits.softmax(-1).transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    sampled, start = [], 0
    for level in range(levels):
        height, width = spatial_shapes[2 * level : 2 * level + 2]
        plane = value[:, start : start + height * width].permute(0, 2, 3, 1).reshape(-1, channels, height, width)
        location = reference + offsets[:, :, :, level] / offsets.new_tensor([width, height])
        grid = (2 * location - 1).reshape(batch, queries, heads, points, 2).transpose(1, 2).flatten(0, 1)
        sampled.append(grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False))
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
    """One GridSample per level, then the softmax-weighted sum over levels and points."""
    levels = range(len(attributes["spatial_shapes"]) // 2)
    sampled = "\n".join(
        f"""
        level{i}_hw = Slice (shapes, two_{2 * i}, two_{2 * i + 2})
        level{i}_plane = Concat <axis: int = 0> (batch_heads, channels, level{i}_hw)
        level{i}_keys = Transpose <perm: ints = [0, 2, 3, 1]> (level{i}_value)
        level{i}_map = Reshape <allowzero: int = 1> (level{i}_keys, level{i}_plane)
        level{i}_wh = Gather (level{i}_hw, one_zero)
        level{i}_size = CastLike (level{i}_wh, value)
        level{i}_shift = Div (level{i}_offset, level{i}_size)
        level{i}_location = Add (reference7, level{i}_shift)
        level{i}_scaled = Mul (level{i}_location, two)
        level{i}_centred = Sub (level{i}_scaled, one)
        level{i}_grid5 = Reshape <allowzero: int = 1> (level{i}_centred, grid_shape)
        level{i}_grid_heads = Transpose <perm: ints = [0, 2, 1, 3, 4]> (level{i}_grid5)
        level{i}_grid = Reshape <allowzero: int = 1> (level{i}_grid_heads, grid4)
        sampled{i} = GridSample <mode: string = "bilinear", padding_mode: string = "zeros">
            (level{i}_map, level{i}_grid)
        """
        for i in levels
    )
    bounds = "\n".join(f"two_{2 * i} = Constant <value_ints: ints = [{2 * i}]> ()" for i in range(len(levels) + 1))
    split_values = ", ".join(f"level{i}_value" for i in levels)
    split_offsets = ", ".join(f"level{i}_offset" for i in levels)
    all_sampled = ", ".join(f"sampled{i}" for i in levels)
    return f"""
    <domain: "uniad", opset_import: ["" : 18]>
    MultiScaleDeformableAttention <spatial_shapes> (value, reference, offsets, logits) => (output)
    {{
        shapes = Constant <value_ints: ints = @spatial_shapes> ()
        {bounds}
        levels = Constant <value_ints: ints = [{len(levels)}]> ()
        one_int = Constant <value_ints: ints = [1]> ()
        two_int = Constant <value_ints: ints = [2]> ()
        one_zero = Constant <value_ints: ints = [1, 0]> ()
        last = Constant <value_ints: ints = [-1]> ()
        pairs = Concat <axis: int = 0> (levels, two_int)
        table = Reshape (shapes, pairs)
        sizes = ReduceProd <keepdims: int = 0> (table, one_int)
        one_float = Constant <value_float: float = 1.0> ()
        two_float = Constant <value_float: float = 2.0> ()
        one = CastLike (one_float, value)
        two = CastLike (two_float, value)
        batch = Shape <start: int = 0, end: int = 1> (value)
        heads = Shape <start: int = 2, end: int = 3> (value)
        channels = Shape <start: int = 3, end: int = 4> (value)
        queries = Shape <start: int = 1, end: int = 2> (reference)
        coordinates = Shape <start: int = 3, end: int = 4> (reference)
        samples = Shape <start: int = 3, end: int = 4> (logits)
        batch_heads = Mul (batch, heads)
        references = Div (coordinates, two_int)
        points = Div (samples, levels)
        repeats = Div (points, references)
        reference_shape = Concat <axis: int = 0> (batch, queries, one_int, one_int, one_int, references, two_int)
        reference7 = Reshape <allowzero: int = 1> (reference, reference_shape)
        offset_shape = Concat <axis: int = 0> (batch, queries, heads, levels, repeats, references, two_int)
        offsets7 = Reshape <allowzero: int = 1> (offsets, offset_shape)
        {split_values} = Split <axis: int = 1> (value, sizes)
        {split_offsets} = Split <axis: int = 3, num_outputs: int = {len(levels)}> (offsets7)
        grid_shape = Concat <axis: int = 0> (batch, queries, heads, points, two_int)
        grid4 = Concat <axis: int = 0> (batch_heads, queries, points, two_int)
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


THREADS = 256
STAGED_BYTES = 16 << 10
"""Maps up to this size are copied into shared memory."""


def plan(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
    """Lanes of 16 bytes each cover a head's channels; a block serves neighbouring queries of one batch and head."""
    (batch, keys, heads, channels), (_, queries, _, coordinates), _, (*_, samples) = shapes
    spatial_shapes = attributes["spatial_shapes"]
    vector = math.gcd(channels, 16 // SCALAR_BYTES[dtype])
    staged = keys * channels * SCALAR_BYTES[dtype] <= STAGED_BYTES
    lanes = min(32, 1 << (channels // vector - 1).bit_length())
    if staged and lanes == 8:
        lanes = 4  # half as many threads repeat the work per point; shared memory serves half rows as fast
    macros: dict[str, str | int] = {
        "SCALAR": SCALARS[dtype],
        "VECTOR": vector,
        "LANES": lanes,
        "THREADS": THREADS,
        "CHANNELS": channels,
        "LEVELS": len(spatial_shapes) // 2,
        "POINTS": 2 * samples // len(spatial_shapes),
        "REFERENCES": coordinates // 2,
        "SHAPES": ",".join(map(str, spatial_shapes)),
        "UNROLL": 4 if len(spatial_shapes) > 2 else max(1, vector // 4),
        "STAGED_KEYS": keys if staged else 0,
    }
    _, reference_stride, offsets_stride, logits_stride = (stride[0] for stride in strides)
    grid = (-(-queries // (THREADS // lanes)), heads, batch)
    return Launch(macros, (keys, queries, reference_stride, offsets_stride, logits_stride), grid, THREADS)


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
    """`x`, copied unless each batch is contiguous; batches themselves may lie anywhere, or be one and the same."""
    return x if x[0].is_contiguous() else x.contiguous()
