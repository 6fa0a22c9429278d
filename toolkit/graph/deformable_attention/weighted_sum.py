"""Sums of samples over levels and points, each times its weight: Mul and ReduceSum, MatMul, or Einsum."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolkit.graph.deformable_attention.layout import Axis, Layout, extent, merged, regrouped
from toolkit.graph.deformable_attention.regrouping import regrouped_by, regroups
from toolkit.graph.deformable_attention.samples import Samples, samples_in
from toolkit.graph.deformable_attention.sizes import Sizes
from toolkit.graph.unfit import Unfit

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

PRODUCT_OPS = frozenset({"Mul", "MatMul", "Einsum"})


@dataclass(frozen=True)
class WeightedSum:
    """For batch-heads N, channels C, queries Q: the sum of samples [N, C, Q, K] times weights over all points K.

    `weight_layout` views the tensor `weights` as [N, C, Q, K], `result_layout` the tensor `result` as a view of
    [N, C, Q].
    """

    samples: Samples
    weights: gs.Tensor
    weight_layout: Layout
    result: gs.Tensor
    result_layout: Layout


@dataclass(frozen=True)
class Product:
    """Products of samples and weights, as views of both with the same axes; those in `summed` are already added up."""

    samples: Layout
    weights: Layout
    summed: tuple[tuple[Axis, Axis], ...] = ()

    def sum(self, axes: Iterable[int], keep: bool) -> Product:
        """Added up along some axes, which keep size 1 if `keep`."""
        samples, weights, summed = self.samples, self.weights, self.summed
        for axis in sorted((axis % len(samples.axes) for axis in axes), reverse=True):
            summed = (*summed, (samples.axes[axis], weights.axes[axis]))
            samples, weights = samples.drop(axis), weights.drop(axis)
            if keep:
                samples, weights = samples.insert(axis), weights.insert(axis)
        return Product(samples, weights, summed)


def weighted_sum(node: gs.Node, operand: int, sizes: Sizes) -> WeightedSum:
    """The sum that begins where a node multiplies samples, its input number `operand`, by weights.

    Raises Unfit if it is none over just levels and points.
    """
    samples = samples_in(node.inputs[operand], sizes)
    if samples is None:
        raise Unfit("no samples are multiplied")
    weights = node.inputs[1 - operand]
    pair = (samples.layout, Layout.of(sizes.known_shape(weights)))
    *_, points = samples.shape
    product, result = multiplied(node, operand, *pair), node.outputs[0]
    while math.prod(extent(axis) for axis, _ in product.summed) < points:
        if len(result.outputs) != 1:
            raise Unfit("the weighted samples are not summed over levels and points")
        [node] = result.outputs
        if node.op == "ReduceSum":
            product = product.sum(reduced_axes(node, product, sizes), bool(node.attrs.get("keepdims", 1)))
        elif regroups(node):
            views = [regrouped_by(node, node.outputs[0], side, sizes) for side in (product.samples, product.weights)]
            product = Product(views[0], views[1], product.summed)
        else:
            raise Unfit("the weighted samples are not summed over levels and points")
        result = node.outputs[0]
    return WeightedSum(samples, weights, weights_of_samples(product, samples), result, sums_of(product, samples))


def multiplied(node: gs.Node, operand: int, samples: Layout, weights: Layout) -> Product:
    """What a node multiplies, and sums at once."""
    sides = (samples, weights) if operand == 0 else (weights, samples)
    summed = 0
    if node.op == "MatMul":
        left, right = sides
        if min(len(left.axes), len(right.axes)) < 2:
            raise Unfit("a vector is multiplied")
        columns = right.transpose([*range(len(right.axes) - 2), -1, -2])
        sides = left.insert(len(left.axes) - 1), columns.insert(len(columns.axes) - 2)
        summed = 1
    elif node.op == "Einsum":
        sides, summed = by_labels(node.attrs["equation"], *sides)
    shape = np.broadcast_shapes(sides[0].shape, sides[1].shape)
    left, right = (side.expand(shape) for side in sides)
    product = Product(left, right) if operand == 0 else Product(right, left)
    return product.sum(range(len(shape) - summed, len(shape)), keep=False)


def by_labels(equation: str, left: Layout, right: Layout) -> tuple[tuple[Layout, Layout], int]:
    """Operands of an Einsum with the axes of its result and then the summed ones, and the number of these."""
    given, _, result = equation.replace(" ", "").partition("->")
    labels = given.split(",")
    if len(labels) != 2 or "." in given or any(len(set(own)) != len(own) for own in labels):
        raise Unfit(f"the equation {equation!r} is not a plain product of two tensors")
    result = result or "".join(sorted(label for label in set(given) - {","} if given.count(label) == 1))
    summed = sorted(set("".join(labels)) - set(result))
    order = [*result, *summed]
    sides = []
    for own, side in zip(labels, (left, right), strict=True):
        placed = side.transpose([own.index(label) for label in order if label in own])
        for axis, label in enumerate(order):
            placed = placed if label in own else placed.insert(axis)
        sides.append(placed)
    return (sides[0], sides[1]), len(summed)


def reduced_axes(node: gs.Node, product: Product, sizes: Sizes) -> Sequence[int]:
    """The axes along which a ReduceSum adds."""
    if len(node.inputs) < 2 or not node.inputs[1].name:
        return range(0 if node.attrs.get("noop_with_empty_axes") else len(product.samples.axes))
    axes = sizes.value(node.inputs[1])
    if axes is None:
        raise Unfit("the axes of a sum depend on data")
    return [int(axis) for axis in axes]


def weights_of_samples(product: Product, samples: Samples) -> Layout:
    """The weights as [N, C, Q, K]. Raises Unfit unless each sample is multiplied and summed once."""
    axes = [*zip(product.samples.axes, product.weights.axes, strict=True), *product.summed]
    steps = sorted((step for own, other in axes for step in refined(own, other)), key=lambda step: -step[1])
    if merged((size, stride) for size, stride, _ in steps) != merged([(math.prod(samples.shape), 1)]):
        raise Unfit("samples are repeated or left out")
    weights = tuple((size, stride) for size, _, stride in steps)
    return Layout(regrouped(weights, samples.shape), product.weights.offset)


def sums_of(product: Product, samples: Samples) -> Layout:
    """The sums as a view of [N, C, Q]. Raises Unfit if they are not over levels and points."""
    *_, points = samples.shape
    summed = [factor for axis, _ in product.summed for factor in axis if factor[0] > 1]
    if any(size * stride > points for size, stride in summed):
        raise Unfit("the weighted samples are summed over more than levels and points")
    axes = tuple(tuple((size, stride // points) for size, stride in axis) for axis in product.samples.axes)
    return Layout(axes)


def refined(axis: Axis, other: Axis) -> list[tuple[int, int, int]]:
    """The steps along an axis of two views at once: sizes, and strides in each."""
    sizes = [size for size, _ in other]
    parts = regrouped(axis, sizes)
    return [
        (size, stride, outer * extent(part[index + 1 :]))
        for part, (_, outer) in zip(parts, other, strict=True)
        for index, (size, stride) in enumerate(part)
    ]
