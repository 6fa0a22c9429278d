"""How the kernel of deformable attention's gradients is launched, for even and uneven levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from toolkit.ops.kernel import SCALARS, Launch, Shapes, ceil_div

SOURCE, ENTRY = Path(__file__).with_name("backward.cu"), "multi_scale_deformable_attention_backward"
THREADS = 128
VECTOR_CHANNELS = 4
"""Gradients of so many channels, of 16 bytes, are added at once."""


def launch_backward(shapes: Shapes, dtype: str, spatial_shapes: Sequence[int], level_points: Sequence[int]) -> Launch:
    """A group of threads for each batch, query and head, whose lanes share the channels; `shapes` were checked."""
    (batch, keys, heads, channels), (reference_batch, queries, reference_levels, coordinates), *_ = shapes
    vector = math.gcd(channels, VECTOR_CHANNELS)
    lanes = min(32, 1 << (channels // vector - 1).bit_length())
    macros: dict[str, str | int] = {
        "SCALAR": SCALARS[dtype],
        "THREADS": THREADS,
        "LANES": lanes,
        "VECTOR": vector,
        "HEADS": heads,
        "CHANNELS": channels,
        "LEVELS": len(level_points),
        "LEVEL_POINTS": ",".join(map(str, level_points)),
        "SAMPLES": sum(level_points),
        "REFERENCES": coordinates // 2,
        "REFERENCE_LEVELS": reference_levels,
        "SHAPES": ",".join(map(str, spatial_shapes)),
    }
    grid = (ceil_div(queries * heads, THREADS // lanes), batch, 1)
    return Launch(macros, (keys, queries, reference_batch), grid, THREADS)
