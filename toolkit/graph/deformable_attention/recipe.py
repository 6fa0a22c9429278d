"""How operands are made for every size of the open dimensions, from how they are made for two choices of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.graph.deformable_attention import remedies
from toolkit.graph.deformable_attention.arrangement import Arrangement
from toolkit.graph.deformable_attention.attention import FusedAttention
from toolkit.graph.deformable_attention.operand import Operand
from toolkit.graph.deformable_attention.sizes import Shape
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

REST = -1
"""The one dimension that follows from the number of elements."""


@dataclass(frozen=True)
class SizeOf:
    """A dimension that equals this axis of the tensor which is reshaped."""

    axis: int


Dimensions = tuple[int | SizeOf, ...]


@dataclass(frozen=True)
class Recipe:
    """Reshape to `split`, transpose by `order` (both only if `order` is not empty), reshape to `shape` (unless None),
    multiply by `scale` and add `shift` if there are.
    """

    split: Dimensions
    order: tuple[int, ...]
    shape: Dimensions | None
    scale: Any = None
    shift: Any = None


@dataclass(frozen=True)
class Fusion:
    """A fused node to be: its operands as tensors with recipes, and the tensor that its output replaces."""

    spatial_shapes: tuple[int, ...]
    level_points: tuple[int, ...]
    dtype: Any
    value: tuple[tuple[gs.Tensor, Recipe], ...]
    reference: tuple[gs.Tensor, Recipe] | None
    offsets: tuple[gs.Tensor, Recipe]
    logits: tuple[gs.Tensor, Recipe]
    queries: int | SizeOf
    result: gs.Tensor
    recipe: Recipe

    @property
    def uneven(self) -> bool:
        """Whether the levels have different numbers of points."""
        return len(set(self.level_points)) > 1


def fusion_of(choices: Sequence[FusedAttention]) -> Fusion:
    """One fusion for all sizes. Raises Unfit if different sizes need different ones."""
    first = choices[0]
    if any(choice.spatial_shapes != first.spatial_shapes for choice in choices):
        raise Unfit("the spatial shapes depend on open dimensions of the inputs", remedies.ONE_IMAGE_SIZE)
    if any(choice.level_points != first.level_points for choice in choices):
        raise Unfit("the number of points depends on open dimensions of the inputs")
    if any(len(choice.value) != len(first.value) for choice in choices):
        raise Unfit("whether the levels are parts of one tensor depends on open dimensions of the inputs")
    references = [choice.locations.reference for choice in choices]
    logits = [choice.logits for choice in choices]
    return Fusion(
        first.spatial_shapes,
        first.level_points,
        first.dtype,
        tuple(making(parts) for parts in zip(*(choice.value for choice in choices), strict=True)),
        making([reference for reference in references if reference]) if all(references) else None,
        making([choice.locations.offsets for choice in choices]),
        making(logits),
        dimension([operand.arrangement.shape[1] for operand in logits], 1),
        first.result,
        recipe([choice.arrangement for choice in choices]),
    )


def dimension(sizes: Sequence[int], axis: int) -> int | SizeOf:
    """A dimension by its size for each choice, and the axis where it stands."""
    return sizes[0] if len(set(sizes)) == 1 else SizeOf(axis)


def making(operands: Sequence[Operand]) -> tuple[gs.Tensor, Recipe]:
    """An operand from its forms for each choice."""
    first = operands[0]
    same_numbers = all(
        (one is None) == (other is None) and (one is None or np.array_equal(one, other))
        for operand in operands
        for one, other in ((first.scale, operand.scale), (first.shift, operand.shift))
    )
    if not same_numbers or any(operand.tensor is not first.tensor for operand in operands):
        raise Unfit("it depends on open dimensions of the inputs in another way than through its shape")
    return first.tensor, recipe([operand.arrangement for operand in operands], first.scale, first.shift)


def recipe(arrangements: Sequence[Arrangement], scale: Any = None, shift: Any = None) -> Recipe:
    """A recipe from the arrangement for each choice."""
    orders = {arrangement.order for arrangement in arrangements}
    if len(orders) != 1:
        raise Unfit("its layout depends on open dimensions of the inputs")
    [order] = orders
    sources = [arrangement.source for arrangement in arrangements]
    splits = [arrangement.split for arrangement in arrangements]
    turned = [tuple(split[axis] for axis in order) for split in splits] if order else sources
    shapes = [arrangement.shape for arrangement in arrangements]
    shape = None if turned == shapes else dimensions(turned, shapes)
    return Recipe(dimensions(sources, splits), order, shape, scale, shift)


def dimensions(sources: Sequence[Shape], targets: Sequence[Shape]) -> Dimensions:
    """How a reshape states its target: fixed sizes, sizes of axes that stay, and at most one that follows."""
    stated: list[int | SizeOf] = []
    for axis, sizes in enumerate(zip(*targets, strict=True)):
        if len(set(sizes)) == 1:
            stated.append(sizes[0])
            continue
        kept = [index for index, given in enumerate(zip(*sources, strict=True)) if given == sizes]
        stated.append(SizeOf(axis if axis in kept else kept[0]) if kept else REST)
    if stated.count(REST) > 1:
        raise Unfit("a reshape depends on several open dimensions of the inputs")
    return tuple(stated)
