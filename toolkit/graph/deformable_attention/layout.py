"""Which element of one tensor stands where in another, when only views and regroupings lie between them.

A layout describes a tensor as a strided view of its source, the tensor it came from: each axis is a list of factors
(size, stride), outermost first, and strides count elements of the source in row-major order. An axis that merges two
axes of the source has two factors; a broadcast one has stride 0. Differently spelled but equal sequences of Reshape,
Transpose, Slice … give equal layouts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from toolkit.graph.deformable_attention import remedies
from toolkit.graph.unfit import Unfit

Factor = tuple[int, int]
"""Size, and stride in elements of the source."""
Axis = tuple[Factor, ...]


@dataclass(frozen=True)
class Layout:
    """A tensor as a view of its source; `offset` is the position of its first element there."""

    axes: tuple[Axis, ...]
    offset: int = 0

    @classmethod
    def of(cls, shape: Sequence[int]) -> Layout:
        """That of a tensor itself."""
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        return cls(tuple(((size, stride),) for size, stride in zip(shape, strides, strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(extent(axis) for axis in self.axes)

    @property
    def factors(self) -> Axis:
        """Factors of all axes, from the outermost to the innermost, merged where they run on."""
        return merged(factor for axis in self.axes for factor in axis)

    @property
    def is_plain(self) -> bool:
        """Whether the elements stand in the order of the source, beginning with its first."""
        return self.offset == 0 and self.factors == merged([(math.prod(self.shape), 1)])

    def transpose(self, order: Sequence[int]) -> Layout:
        return Layout(tuple(self.axes[axis] for axis in order), self.offset)

    def reshape(self, shape: Sequence[int]) -> Layout:
        """Regroup the elements. Raises Unfit if an axis of the new shape is not a run of equal steps."""
        return Layout(regrouped(self.factors, shape), self.offset)

    def expand(self, shape: Sequence[int]) -> Layout:
        """Repeat axes of size 1, the missing leading ones too, up to a shape."""
        axes = (((),) * (len(shape) - len(self.axes))) + self.axes
        pairs = zip(axes, shape, strict=True)
        return Layout(tuple(axis if extent(axis) == size else ((size, 0),) for axis, size in pairs), self.offset)

    def slice(self, axis: int, start: int, size: int) -> Layout:
        """Part of an axis. Raises Unfit if it cuts through a factor of a merged axis."""
        factors = merged(self.axes[axis])
        inner = math.prod(size for size, _ in factors[1:])
        if start % inner or size % inner:
            raise Unfit("a slice cuts through merged axes")
        stride = factors[0][1] if factors else 0
        part = ((size // inner, stride), *factors[1:])
        axes = (*self.axes[:axis], part, *self.axes[axis + 1 :])
        return Layout(axes, self.offset + start // inner * stride)

    def drop(self, axis: int) -> Layout:
        """Without an axis of size 1."""
        return Layout((*self.axes[:axis], *self.axes[axis + 1 :]), self.offset)

    def insert(self, axis: int, factors: Axis = ()) -> Layout:
        """With one more axis, by default of size 1."""
        return Layout((*self.axes[:axis], factors, *self.axes[axis:]), self.offset)

    def through(self, source: Layout) -> Layout:
        """The same elements as a view of what the source is itself a view of, by the layout `source`.

        Raises Unfit if a step mixes axes of that.
        """
        if self.offset:
            raise Unfit("a part of a tensor is used alone")
        total, flat = math.prod(source.shape), source.factors
        axes = []
        for axis in self.axes:
            parts = [
                regrouped(flat, (total // (size * stride), size, stride))[1] if stride else ((size, 0),)
                for size, stride in axis
            ]
            axes.append(tuple(factor for part in parts for factor in part))
        return Layout(tuple(axes), source.offset)


def extent(axis: Axis) -> int:
    """Number of elements along an axis."""
    return math.prod(size for size, _ in axis)


def merged(factors: Iterable[Factor]) -> Axis:
    """The same steps by as few factors as possible."""
    kept: list[Factor] = []
    for size, stride in factors:
        if size == 1:
            continue
        if kept and kept[-1][1] == size * stride:
            kept[-1] = (kept[-1][0] * size, stride)
        else:
            kept.append((size, stride))
    return tuple(kept)


def regrouped(factors: Axis, shape: Sequence[int]) -> tuple[Axis, ...]:
    """Distribute factors, outermost first, to axes of the given sizes, splitting them as needed."""
    pending = [factor for factor in reversed(factors) if factor[0] > 1]
    axes = []
    for size in shape:
        axis: list[Factor] = []
        while size > 1:
            if not pending:
                raise Unfit("a reshape changes the number of elements")
            extent_, stride = pending.pop()
            common = math.gcd(size, extent_)
            if common not in (size, extent_):
                raise Unfit("a reshape mixes axes")
            if common < extent_:
                pending.append((extent_ // common, stride))
            axis.append((common, stride * (extent_ // common)))
            size //= common
        axes.append(tuple(axis))
    if pending:
        raise Unfit("a reshape changes the number of elements")
    return tuple(axes)


def joined(parts: Sequence[Layout]) -> Layout:
    """Equal views at evenly spaced places of one source, as one with a leading axis that counts them.

    Raises Unfit if the parts differ in more than their place.
    """
    first = parts[0]
    if any([merged(a) for a in part.axes] != [merged(a) for a in first.axes] for part in parts):
        raise Unfit("the levels differ in their shape or order")
    step = parts[1].offset - first.offset if len(parts) > 1 else 0
    if any(part.offset != first.offset + index * step for index, part in enumerate(parts)):
        raise Unfit("the levels do not follow each other")
    return first.insert(0, ((len(parts), step),))


def side_by_side(parts: Sequence[Layout], axis: int) -> Layout:
    """Views of one source as one, with this axis of each after that of the one before; all else is the same.

    Raises Unfit if the parts differ in more than their length along the axis, or do not follow each other.
    """
    lengths = [part.shape[axis] for part in parts]
    if len(set(lengths)) == 1:
        stacked = joined(parts)
        return stacked.drop(0).drop(axis).insert(axis, (*stacked.axes[0], *stacked.axes[axis + 1]))
    runs = [merged(part.axes[axis]) for part in parts]
    step = next(run[-1][1] for run in runs if run)
    starts = accumulate(lengths[:-1], initial=0)
    follow = all(part.offset - parts[0].offset == start * step for part, start in zip(parts, starts, strict=True))
    if not follow or any(run != merged([(length, step)]) for run, length in zip(runs, lengths, strict=True)):
        reason = f"levels of {', '.join(map(str, lengths))} do not follow each other in one tensor"
        raise Unfit(reason, remedies.FOLLOWING)
    others = [[merged(other) for other in part.drop(axis).axes] for part in parts]
    if any(other != others[0] for other in others):
        raise Unfit("the levels differ in their shape or order")
    return parts[0].drop(axis).insert(axis, ((sum(lengths), step),))
