"""Fused multi-scale deformable attention (Zhu et al. 2021, equation 3).

Raw offsets and attention logits go in; the softmax over levels and points and the location arithmetic
are part of the op.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from custom_ops.multi_scale_deformable_attention.backward import ENTRY, SOURCE, launch_backward
from toolkit.errors import InputError
from toolkit.ops.cuda import ALIGNMENT, launch_on
from toolkit.ops.gradient import register_gradient
from toolkit.ops.kernel import SCALAR_BYTES, SCALARS, Kernel, Launch, Shapes, ceil_div
from toolkit.ops.spec import Attributes, CustomOp
from toolkit.ops.traced_body import NodeAttributes, TracedBody, reshape, sizes

if TYPE_CHECKING:
    from onnx_ir import Value
    from onnxscript import OpBuilder

NOWHERE = -1e4
"""Coordinate, in maps, for the references of a query that is to sample nothing, far from where any offset leads: the
kernel spends nothing on queries that are there with all of them."""


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
    levels = len(spatial_shapes) // 2
    return attend(value, reference, offsets, logits, spatial_shapes, [logits.shape[3] // levels] * levels)


def attend(
    value: Tensor,
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    spatial_shapes: Sequence[int],
    level_points: Sequence[int],
) -> Tensor:
    """The same for levels that have `level_points` each: offsets [B, Q, H, K*2] and logits [B, Q, H, K] of all K."""
    batch, _, heads, channels = value.shape
    reference_batch, queries, reference_levels, coordinates = reference.shape
    references = coordinates // 2
    sizes = list(zip(spatial_shapes[::2], spatial_shapes[1::2], strict=True))
    planes = value.split([height * width for height, width in sizes], 1)
    moves = offsets.split([2 * points for points in level_points], 3)
    weights = logits.softmax(-1).transpose(1, 2).reshape(batch * heads, 1, queries, logits.shape[3])
    parts = weights.split(level_points, 3)
    sums = []
    for level, (height, width) in enumerate(sizes):
        origin = reference[:, :, level % reference_levels].reshape(reference_batch, queries, 1, 1, references, 2)
        move = moves[level].reshape(batch, queries, heads, level_points[level] // references, references, 2)
        grid = 2 * (origin + move / move.new_tensor([width, height])) - 1
        grid = grid.transpose(1, 2).reshape(batch * heads, queries, level_points[level], 2)
        plane = planes[level].permute(0, 2, 3, 1).reshape(-1, channels, height, width)
        sums.append(summed_samples(plane, grid, parts[level]))  # level by level: samples are what takes memory
    return sum(sums[1:], sums[0]).view(batch, heads, channels, queries).permute(0, 3, 1, 2).contiguous()


def summed_samples(plane: Tensor, grid: Tensor, weights: Tensor) -> Tensor:
    """Planes [N, C, h, w] sampled at grid [N, Q, P, 2], times weights [N, 1, Q, P], summed over P -> [N, C, Q].

    Where no gradient is asked for, queries with all of their points outside, as most cells are for a camera, are left
    at zero: of each plane as many are computed as of the one with most inside.
    """
    queries = grid.shape[1]
    # With gradients the op may be traced, and no size may hang on values then.
    if any(x.requires_grad for x in (plane, grid, weights)) or not grid.numel():
        return sum_all_samples(plane, grid, weights)
    reach = 1 + 2 / grid.new_tensor([plane.shape[3], plane.shape[2]])
    inside = ~(grid.abs() > reach).any(-1).all(-1)
    most = max(1, int(inside.sum(1).max()))
    if 2 * most > queries:
        return sum_all_samples(plane, grid, weights)
    chosen = inside.float().topk(most, 1, sorted=False).indices
    rows = torch.arange(len(grid), device=grid.device)[:, None]
    sums = sum_all_samples(plane, grid[rows, chosen], weights[rows, 0, chosen].unsqueeze(1))
    return sums.new_zeros(*sums.shape[:2], queries).scatter_(2, chosen[:, None].expand_as(sums), sums)


def sum_all_samples(plane: Tensor, grid: Tensor, weights: Tensor) -> Tensor:
    """The same, query by query."""
    sampled = grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled.mul_(weights).sum(-1)


def output_shape(shapes: Shapes, attributes: Attributes) -> Sequence[int]:
    """Batches, heads and channels of the value, queries of the reference points."""
    (batch, _, heads, channels), (_, queries, *_), *_ = shapes
    return batch, queries, heads, channels


@multi_scale_deformable_attention.register_fake
def _(value: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor, spatial_shapes: Sequence[int]) -> Tensor:
    return value.new_empty(output_shape([value.shape, reference.shape], {}))


@TracedBody
def body(
    op: OpBuilder, attributes: NodeAttributes, value: Value, reference: Value, offsets: Value, logits: Value
) -> Value:
    """One GridSample per level, then the softmax-weighted sum over levels and points.

    GridSample has no mode: bilinear is its default, under a name that changed with opset 20. Only the number of levels
    is in the function; their sizes are read from the node.
    """
    table = op.Reshape(attributes.tensor("spatial_shapes"), [-1, 2])
    levels = op.Shape(table, start=0, end=1)
    batch, _, heads, channels = sizes(op, value, 4)
    reference_batch, queries, reference_levels, coordinates = sizes(op, reference, 4)
    samples = op.Shape(logits, start=3, end=4)
    batch_heads, references, points = batch * heads, coordinates / [2], samples / levels

    # Each number of a query's row gets its own origin and divisor: ONNX Runtime is slow at repeating two of them.
    row = heads * samples * [2]
    origins = reshape(op, reference, reference_batch, queries, [1], reference_levels, [1], coordinates)
    origins = op.Expand(origins, op.Concat([1], [1], heads, levels, points / references, [1], axis=0))
    cells = reshape(op, op.CastLike(op.Gather(table, [1, 0], axis=1), value), levels, [1], [2])
    cells = op.Expand(cells, op.Concat(heads, levels, points, [2], axis=0))
    moves = reshape(op, offsets, batch, queries, row) / reshape(op, cells, row)
    grids = (reshape(op, origins, reference_batch, queries, row) + moves) * 2.0 - 1.0
    grids = reshape(op, grids, batch, queries, heads, levels, points, [2])
    grids = reshape(op, op.Transpose(grids, perm=[3, 0, 2, 1, 4, 5]), levels, batch_heads, queries, points, [2])

    count = len(attributes["spatial_shapes"]) // 2
    areas = op.Gather(table, 0, axis=1) * op.Gather(table, 1, axis=1)
    planes = op.Split(value, areas, axis=1, _outputs=count) if count > 1 else [value]
    sampled = []
    for level, plane in enumerate(planes):
        grid = op.Gather(grids, level) if count > 1 else op.Squeeze(grids, [0])  # the only one is not copied
        shape = (batch_heads, channels, op.Gather(table, level))
        keys = reshape(op, op.Transpose(plane, perm=[0, 2, 3, 1]), *shape)
        sampled.append(op.GridSample(keys, grid, padding_mode="zeros"))
    return weighted_sum(op, sampled, logits, (batch, queries, heads, channels), batch_heads, samples)


def weighted_sum(
    op: OpBuilder, sampled: Sequence[Value], logits: Value, shape: Sequence[Value], batch_heads: Value, samples: Value
) -> Value:
    """Samples [B*H, C, Q, P] of each level times the softmax of logits [B, Q, H, K], summed to `shape` [B, Q, H, C].

    Level by level: samples are what takes memory.
    """
    batch, queries, heads, channels = shape
    weights = op.Transpose(op.Softmax(logits, axis=-1), perm=[0, 2, 1, 3])
    weights = reshape(op, weights, batch_heads, [1], queries, samples)
    parts = [weights]
    if len(sampled) > 1:
        points = op.Concat(*(op.Shape(level, start=3, end=4) for level in sampled), axis=0)
        parts = op.Split(weights, points, axis=-1, _outputs=len(sampled))
    sums = [op.ReduceSum(level * part, [-1], keepdims=0) for level, part in zip(sampled, parts, strict=True)]
    summed = reshape(op, sum(sums[1:], sums[0]), batch, heads, channels, queries)
    return op.Transpose(summed, perm=[0, 3, 1, 2])


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

SHARED_BYTES = 48 << 10
"""Shared memory that a block has without asking for more."""

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
    """That of as many points on each level."""
    return launch(shapes, strides, dtype, attributes["spatial_shapes"], even_points(shapes, attributes))


def plan_backward(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
    """The same for the gradients."""
    check_sizes(shapes, attributes["spatial_shapes"])
    return launch_backward(shapes, dtype, attributes["spatial_shapes"], even_points(shapes, attributes))


def even_points(shapes: Shapes, attributes: Attributes) -> list[int]:
    """The points of each level, from the shape of the logits."""
    levels, samples = len(attributes["spatial_shapes"]) // 2, shapes[3][3]
    return [samples // levels] * levels


def launch(
    shapes: Shapes, strides: Shapes, dtype: str, spatial_shapes: Sequence[int], level_points: Sequence[int]
) -> Launch:
    """Lanes of 16 bytes each cover a head's channels; a block serves neighbouring queries of one batch and a few heads.

    The launch shapes are the fastest of some hundred measured on an H100 for each size of UniAD's calls.
    """
    (batch, keys, heads, channels), (reference_batch, queries, reference_levels, coordinates), _, (*_, samples) = shapes
    check_sizes(shapes, spatial_shapes)
    row_bytes = channels * SCALAR_BYTES[dtype]
    vector = math.gcd(channels, 16 // SCALAR_BYTES[dtype])
    lanes = min(32, 1 << (channels // vector - 1).bit_length())
    together = math.gcd(heads, 1 << max(1, LINE_BYTES // row_bytes).bit_length() - 1)
    points = max(level_points)
    few_lanes = min(lanes, 4)  # half as many threads repeat the work per point; shared memory serves half rows as fast
    map_bytes = keys * row_bytes
    block_bytes = map_bytes * together + STAGED.threads // few_lanes * point_bytes(points)
    staged = row_bytes % 16 == 0 and row_bytes <= LINE_BYTES and map_bytes <= STAGED_BYTES
    if staged and block_bytes <= SHARED_BYTES:
        shape, lanes = STAGED, few_lanes
    elif map_bytes * together >= LARGE_BYTES:
        shape = LARGE
    else:
        shape = FEW if batch * queries * heads <= FEW_GROUPS else MANY[dtype]
    threads = shape.threads
    while threads // lanes * point_bytes(points) > SHARED_BYTES and threads > max(32, lanes * together):
        threads //= 2
    macros: dict[str, str | int] = {
        "SCALAR": SCALARS[dtype],
        "VECTOR": vector,
        "LANES": lanes,
        "THREADS": threads,
        "BLOCKS": shape.blocks,
        "HEADS": heads,
        "HEADS_TOGETHER": together,
        "CHANNELS": channels,
        "LEVELS": len(spatial_shapes) // 2,
        "LEVEL_POINTS": ",".join(map(str, level_points)),
        "POINTS": points,
        "SAMPLES": samples,
        "REFERENCES": coordinates // 2,
        "REFERENCE_LEVELS": reference_levels,
        "SHAPES": ",".join(map(str, spatial_shapes)),
        "UNROLL": shape.unroll,
        "STRIP": shape.strip,
        "PREFETCH": int(shape.prefetch),
        "SKIP_NOWHERE": int(shape is LARGE and coordinates > 2),
        "STAGED_KEYS": keys if shape is STAGED else 0,
    }
    _, reference_stride, offsets_stride, logits_stride = (stride[0] for stride in strides)
    grid = (ceil_div(queries, threads // lanes // together), heads // together, batch)
    integers = (keys, queries, reference_batch, reference_stride, offsets_stride, logits_stride)
    return Launch(macros, integers, grid, threads)


def point_bytes(points: int) -> int:
    """Shared memory in which the kernel keeps cells and weights of so many points for one query and head."""
    return 4 * ((points + 3) // 8 * 8 + 4) + 16 * (points | 1)


KERNEL = Kernel(Path(__file__).with_name("kernel.cu"), "multi_scale_deformable_attention", plan)
MULTI_SCALE_DEFORMABLE_ATTENTION = CustomOp(
    "MultiScaleDeformableAttention",
    multi_scale_deformable_attention,
    body,
    KERNEL,
    example,
    output_shape,
    backward=Kernel(SOURCE, ENTRY, plan_backward),
)
register_gradient(MULTI_SCALE_DEFORMABLE_ATTENTION)


@torch.library.impl("uniad::multi_scale_deformable_attention", "cuda")
def _(value: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor, spatial_shapes: Sequence[int]) -> Tensor:
    output = value.new_empty(output_shape([value.shape, reference.shape], {}))
    inputs = (value.contiguous(), *(dense_rows(x) for x in (reference, offsets, logits)))
    return launch_on(KERNEL, inputs, output, spatial_shapes=spatial_shapes)


def dense_rows(x: Tensor) -> Tensor:
    """`x`, copied unless each batch is contiguous and aligned; batches may lie anywhere, or be one and the same."""
    return x if x[:1].is_contiguous() and x.stride(0) * x.itemsize % ALIGNMENT == 0 else x.contiguous()
