"""Deformable attention on a GPU: error against float64 and time at every size of UniAD-tiny and UniAD-base.

    python -m benchmarks.deformable_attention

Times are medians of CUDA-graph replays of one launch, with several sets of inputs in rotation, so that no set stays in
the cache between its uses. "random" reference points are uniform over the map; "BEV" ones follow the order of the
queries, as they do in the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.replay import microseconds, sets_of
from custom_ops.multi_scale_deformable_attention.op import multi_scale_deformable_attention

BASE_LEVELS = (116, 200, 58, 100, 29, 50, 15, 25)
HEADS, CHANNELS = 8, 32


@dataclass(frozen=True)
class Case:
    """Sizes of one call, and the time that its fewest bytes take at 3 TB/s in FP32, in microseconds."""

    name: str
    batch: int
    spatial_shapes: tuple[int, ...]
    queries: int
    points: int
    references: int
    floor: float


CASES = (
    Case("tiny spatial", 6, (8, 13), 2500, 8, 4, 9.3),
    Case("tiny temporal", 2, (50, 50), 2500, 4, 1, 4.1),
    Case("tiny decoder", 1, (50, 50), 901, 4, 1, 1.3),
    Case("tiny motion", 1, (50, 50), 129 * 72, 4, 1, 5.5),
    Case("base spatial", 6, BASE_LEVELS, 10000, 8, 4, 146),
    Case("base temporal", 2, (200, 200), 40000, 4, 1, 65),
)


def make_inputs(case: Case, ordered: bool, seed: int) -> tuple[Tensor, ...]:
    """Float64 inputs on the GPU: value, reference, offsets (within a few cells), logits."""
    generator = torch.Generator("cuda").manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device="cuda", dtype=torch.float64)

    shapes = case.spatial_shapes
    levels = len(shapes) // 2
    keys = sum(shapes[2 * level] * shapes[2 * level + 1] for level in range(levels))
    reference = uniform(case.batch, case.queries, 1, 2 * case.references)
    if ordered:
        side = round(case.queries**0.5)
        index = torch.arange(case.queries, device="cuda")
        grid = torch.stack((index % side, index // side), -1).double() / side
        reference = (grid[None, :, None] + 0.02 * uniform(case.batch, 1, case.references, 2)).flatten(2).unsqueeze(2)
    samples = levels * case.points
    return (
        2 * uniform(case.batch, keys, HEADS, CHANNELS) - 1,
        reference,
        8 * uniform(case.batch, case.queries, HEADS, 2 * samples) - 4,
        4 * uniform(case.batch, case.queries, HEADS, samples) - 2,
    )


def error(case: Case, dtype: torch.dtype) -> float:
    """Relative L2 error of the kernel against float64 on the same, already rounded, inputs."""
    rounded = [x.to(dtype) for x in make_inputs(case, False, 7)]
    shapes = list(case.spatial_shapes)
    actual = multi_scale_deformable_attention(*rounded, shapes).double()
    expected = multi_scale_deformable_attention._init_fn(*(x.double() for x in rounded), shapes)
    return float((actual - expected).norm() / expected.norm())


def time(case: Case, dtype: torch.dtype, ordered: bool) -> float:
    """Median time of one call, in microseconds."""
    seeds = count()

    def make() -> tuple[Tensor, ...]:
        return tuple(x.to(dtype) for x in make_inputs(case, ordered, next(seeds)))

    def call(*inputs: Tensor) -> Tensor:
        attended: Tensor = multi_scale_deformable_attention(*inputs, list(case.spatial_shapes))
        return attended

    return microseconds(call, sets_of(make))


def main() -> None:
    """Print the table."""
    table = Table("call", "dtype", "random µs", "BEV µs", "floor µs", "error", title=torch.cuda.get_device_name())
    for case in CASES:
        for dtype, share in ((torch.float32, 1.0), (torch.float16, 0.5)):
            times = [time(case, dtype, ordered) for ordered in (False, True)]
            row = (*times, case.floor * share)
            table.add_row(case.name, str(dtype)[6:], *(f"{t:.1f}" for t in row), f"{error(case, dtype):.1e}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
