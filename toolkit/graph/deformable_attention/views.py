"""Tensors as views of those they were computed from, through regroupings and multiplication by constants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.graph.deformable_attention.layout import Axis, Layout
from toolkit.graph.deformable_attention.regrouping import regrouped_by, regroups
from toolkit.graph.deformable_attention.sizes import Shape, Sizes
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

ARITHMETIC_OPS = frozenset({"Add", "Div", "Mul", "Sub"})


@dataclass(frozen=True)
class ScaledView:
    """A tensor as ``scale * source + shift``, its elements arranged by `layout`.

    The scale is the product of the number `factor` and of `fields`, constants (flat) with a layout of their own.
    """

    layout: Layout
    factor: float = 1.0
    shift: float = 0.0
    fields: tuple[tuple[Any, Layout], ...] = ()

    def regroup(self, node: gs.Node, made: gs.Tensor, sizes: Sizes) -> ScaledView:
        """The view that a regrouping node makes of this one."""
        fields = tuple((values, regrouped_by(node, made, layout, sizes)) for values, layout in self.fields)
        return ScaledView(regrouped_by(node, made, self.layout, sizes), self.factor, self.shift, fields)

    def expand(self, shape: Shape) -> ScaledView:
        """Broadcast to a shape."""
        fields = tuple((values, layout.expand(shape)) for values, layout in self.fields)
        return ScaledView(self.layout.expand(shape), self.factor, self.shift, fields)

    def compute(self, op: str, constant: Any, reversed_: bool) -> ScaledView:
        """The view after Add, Sub, Mul or Div with a constant, which is the first operand if `reversed_`.

        Raises Unfit for what is no multiplication plus a number.
        """
        view = self.expand(np.broadcast_shapes(self.layout.shape, constant.shape))
        if op in ("Add", "Sub"):
            number = uniform(constant)
            if number is None:
                raise Unfit("different numbers are added")
            if op == "Add":
                return ScaledView(view.layout, view.factor, view.shift + number, view.fields)
            sign = -1 if reversed_ else 1
            return ScaledView(view.layout, sign * view.factor, sign * (view.shift - number), view.fields)
        if op == "Div" and reversed_:
            raise Unfit("a constant is divided")
        values = 1 / constant.astype(np.float64) if op == "Div" else constant.astype(np.float64)
        if (number := uniform(values)) is not None:
            return ScaledView(view.layout, view.factor * number, view.shift * number, view.fields)
        if view.shift:
            raise Unfit("a sum is scaled differently along an axis")
        field = Layout.of(values.shape).expand(view.layout.shape)
        return ScaledView(view.layout, view.factor, 0.0, (*view.fields, (values.ravel(), field)))

    def scale(self, kept: Sequence[int]) -> Any:
        """The scale along some axes, of the shape of these. Raises Unfit if it differs along others."""
        scale = np.full([self.layout.shape[axis] for axis in kept], self.factor)
        for values, layout in self.fields:
            others = [axis for axis in range(len(layout.axes)) if axis not in kept]
            if any(stride for axis in others for size, stride in layout.axes[axis] if size > 1):
                raise Unfit("queries or heads are scaled differently")
            places = np.array(layout.offset)
            for axis in kept:
                places = np.add.outer(places, strides_along(layout.axes[axis]))
            scale = scale * values[places]
        return scale


def uniform(values: Any) -> float | None:
    """The number that all elements equal, None if they differ."""
    return float(values.flat[0]) if values.size and (values == values.flat[0]).all() else None


def strides_along(axis: Axis) -> Any:
    """Distance of each element of an axis from the first one, in the source."""
    return reduce(np.add.outer, [np.arange(size) * stride for size, stride in axis], np.array(0)).ravel()


@dataclass(frozen=True)
class Step:
    """One node on the way from a source to a tensor: it makes `made` of its input number `operand`."""

    node: gs.Node
    made: gs.Tensor
    operand: int

    @property
    def source(self) -> gs.Tensor:
        return self.node.inputs[self.operand]

    def __call__(self, view: ScaledView, sizes: Sizes) -> ScaledView:
        """The view of `made` from that of the source. Raises Unfit if there is none."""
        if regroups(self.node):
            return view.regroup(self.node, self.made, sizes)
        if self.node.op in ARITHMETIC_OPS:
            other = sizes.value(self.node.inputs[1 - self.operand])
            if other is not None and (self.node.op in ("Mul", "Div") or uniform(other) is not None):
                return view.compute(self.node.op, other, self.operand == 1)
            return view.expand(sizes.known_shape(self.made))  # one term of a sum, which may broadcast it
        return view  # element by element along an axis that the caller knows, such as Softmax


@dataclass(frozen=True)
class Path:
    """A tensor and the steps that lead to it, the last step first."""

    target: gs.Tensor
    steps: tuple[Step, ...] = ()

    @property
    def root(self) -> gs.Tensor:
        return self.steps[-1].source if self.steps else self.target

    @property
    def sources(self) -> tuple[gs.Tensor, ...]:
        """The target and all tensors on the way to it, the nearest first."""
        return (self.target, *(step.source for step in self.steps))

    def view(self, source: gs.Tensor, sizes: Sizes) -> ScaledView:
        """The target as a view of one of its sources."""
        count = next(index for index, tensor in enumerate(self.sources) if tensor is source)
        view = ScaledView(Layout.of(sizes.known_shape(source)))
        return reduce(lambda made, step: step(made, sizes), reversed(self.steps[:count]), view)

    def via(self, node: gs.Node, operand: int) -> Path:
        """Extended by the node that makes the root."""
        return Path(self.target, (*self.steps, Step(node, self.root, operand)))

    def upwards(self, sizes: Sizes, *, arithmetic: bool = False) -> Path:
        """Extended as far as the nodes regroup elements, or with `arithmetic` also compute with constants."""
        path = self
        while (operand := continued(path.root, sizes, arithmetic)) is not None:
            path = path.via(path.root.inputs[0], operand)
        return path


def continued(tensor: gs.Tensor, sizes: Sizes, arithmetic: bool) -> int | None:
    """Which input of its node a tensor is a view of, None if of none."""
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or node.domain:
        return None
    if regroups(node):
        return 0
    if not arithmetic or node.op not in ARITHMETIC_OPS:
        return None
    constants = [sizes.value(operand) for operand in node.inputs]
    for operand, other in ((0, constants[1]), (1, constants[0])):
        if other is not None and constants[operand] is None:
            multiplies = node.op == "Mul" or (node.op == "Div" and operand == 0)
            return operand if multiplies or (node.op in ("Add", "Sub") and uniform(other) is not None) else None
    return None


def common_sources(paths: Sequence[Path]) -> Iterator[gs.Tensor]:
    """Tensors that all paths come from, the nearest first."""
    shared = set.intersection(*({id(tensor) for tensor in path.sources} for path in paths))
    return (tensor for tensor in paths[0].sources if id(tensor) in shared)
