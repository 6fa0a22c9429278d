"""The shortest way from a tensor to the layout that the fused node wants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.graph.deformable_attention.layout import Layout
from toolkit.graph.deformable_attention.sizes import Shape
from toolkit.graph.unfit import Unfit


@dataclass(frozen=True)
class Arrangement:
    """Reshape to `split`, transpose by `order`, reshape to `shape`; the first two only if `order` is not empty."""

    source: Shape
    split: Shape
    order: tuple[int, ...]
    shape: Shape

    @property
    def effort(self) -> int:
        """Number of nodes that this takes."""
        return 2 * bool(self.order) + (bool(self.order) or self.shape != self.source)


def arrange(source: Shape, wanted: Layout, shape: Sequence[int]) -> Arrangement:
    """How a tensor of shape `source` becomes its view `wanted`, with axes merged to `shape`.

    Raises Unfit if the view repeats elements or leaves some out.
    """
    factors = wanted.factors
    ranked = sorted(range(len(factors)), key=lambda index: -factors[index][1])
    split = tuple(factors[index][0] for index in ranked)
    strides = [math.prod(split[index + 1 :]) for index in range(len(split))]
    if wanted.offset or math.prod(split) != math.prod(source) or strides != [factors[index][1] for index in ranked]:
        raise Unfit("elements are repeated or left out")
    if ranked == sorted(ranked):
        return Arrangement(source, (), (), tuple(shape))
    return Arrangement(source, split, tuple(ranked.index(index) for index in range(len(ranked))), tuple(shape))
