"""Convolutions become calls of the operators that have a kernel of their own, or cuDNN's fused one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.nn import functional

from toolkit.engines.gpu.compiled.kernels.tiles import product_tile
from toolkit.engines.gpu.compiled.operators import REDUCED, fits, weight_parts
from toolkit.engines.gpu.compiled.passes.graph_edit import (
    Aten,
    add_constant,
    calls,
    constant_of,
    convolution_arguments,
    finish,
    is_call,
    shape_of,
)
from toolkit.engines.gpu.compiled.passes.use_linear import CHANNELS, LARGE, add_counters, only_relu, replace_through
from toolkit.precision import Precision

OURS = torch.ops.uniad_gpu
MANY_CHANNELS = 2048
"""More than an image has: 1x1 convolutions with so long sums take cuDNN a third of the time of our kernel in FP16."""
FEW_CHANNELS = 4
"""Of a picture, filled up: so many lie together that those of 8 pixels of a row are one step of the kernel."""


@dataclass(frozen=True)
class Convolution:
    """A convolution with equal strides and equal padding, and `weight` [outputs, inputs, height, width]."""

    x: Node
    weight: Tensor
    bias: Node | None
    stride: int
    padding: int


def use_convolution(gm: GraphModule, precision: Precision) -> int:
    """Replace convolutions, each with the sum and ReLU that follow; returns the number replaced.

    Between convolutions, images have the type of the weights in FP16 and BF16. There, cuDNN's kernels are the faster
    ones where pixels share inputs, or sums are long; where they do not, a convolution is a matrix product.
    """
    rewrites = 0
    for node in calls(gm, Aten.conv2d.default):
        found = _match(gm, node)
        if found is None or not fits(found.weight, precision):
            continue
        total, residual = _sum_after(node)
        last = only_relu(total)
        relu = last is not total
        reduced = precision in REDUCED and all(_takes_reduced(gm, user, last) for user in last.users)
        with gm.graph.inserting_before(total):
            bias = _bias_of(gm, found) if reduced else None
            if bias is not None and relu and _shares_inputs(found):
                new = _fused(gm, found, bias, residual, REDUCED[precision])
            elif bias is not None and residual is None and _by_cublas(found, shape_of(node)):
                new = _pointwise(gm, found, bias, REDUCED[precision], relu=relu)
            else:
                new = _product(gm, found, shape_of(node), residual, precision, relu=relu, reduced=reduced)
        replace_through(last, total, new)
        rewrites += 1
    return finish(gm, rewrites)


def _product(
    gm: GraphModule,
    found: Convolution,
    shape: tuple[int, ...],
    residual: Node | None,
    precision: Precision,
    *,
    relu: bool,
    reduced: bool,
) -> Node:
    """A call of our operator, for a result of `shape`."""
    if found.weight.shape[1] < CHANNELS:
        found = _over_pixels(gm, found, shape)
        if precision in REDUCED:  # as the kernel would round it, in half of the memory
            found = replace(found, x=_cast(gm, found.x, REDUCED[precision]))
    taps = found.weight.permute(0, 2, 3, 1).contiguous()
    parts = weight_parts(taps, precision)
    rows = shape[0] * prod(shape[2:])
    tile = product_tile(rows, parts)
    arrived = add_counters(gm, tile, tile.programs(rows, taps.shape[0]), taps.device)
    image = _channels_last(gm, found.x)
    added = None if residual is None else _channels_last(gm, residual)
    kernel = add_constant(gm, parts)
    args = (image, kernel, found.bias, added, arrived, found.stride, found.padding, relu, reduced)
    return gm.graph.call_function(OURS.conv2d.default, args)


def _fused(gm: GraphModule, found: Convolution, bias: Tensor, residual: Node | None, dtype: torch.dtype) -> Node:
    """A call of cuDNN's, with everything in `dtype`."""
    image = _channels_last(gm, _cast(gm, found.x, dtype))
    added = None if residual is None else _channels_last(gm, _cast(gm, residual, dtype))
    weight = add_constant(gm, found.weight.to(dtype, memory_format=torch.channels_last))
    args = (image, weight, add_constant(gm, bias.to(dtype)), added, found.stride, found.padding)
    return gm.graph.call_function(OURS.conv2d_relu.default, args)


def _shares_inputs(found: Convolution) -> bool:
    """Whether a pixel has several taps, in an image of as many channels as cuDNN's tensor cores take, or channels that
    are samples of several.
    """
    _, inputs, *kernel = found.weight.shape
    return (prod(kernel) > 1 and inputs >= CHANNELS) or inputs > MANY_CHANNELS


def _pointwise(gm: GraphModule, found: Convolution, bias: Tensor, dtype: torch.dtype, *, relu: bool) -> Node:
    """A call of cuBLAS's, with everything in `dtype`."""
    image = _channels_last(gm, _cast(gm, found.x, dtype))
    pixels = gm.graph.call_function(Aten.permute.default, (image, [0, 2, 3, 1]))
    weight = add_constant(gm, found.weight.flatten(1).to(dtype))
    rows = gm.graph.call_function(OURS.product.default, (pixels, weight, add_constant(gm, bias.to(dtype)), relu))
    return gm.graph.call_function(Aten.permute.default, (rows, [0, 3, 1, 2]))


def _by_cublas(found: Convolution, shape: tuple[int, ...]) -> bool:
    """Whether a convolution is a matrix product, and that a large one."""
    plain = found.weight.shape[2:].numel() == 1 and (found.stride, found.padding) == (1, 0)
    return plain and found.weight.shape[1] >= CHANNELS and prod(shape) * found.weight.shape[1] >= LARGE


def _bias_of(gm: GraphModule, found: Convolution) -> Tensor | None:
    """The bias, zeros where there is none; None if it is not a constant."""
    return constant_of(gm, found.bias) if found.bias is not None else found.weight.new_zeros(len(found.weight))


def _match(gm: GraphModule, node: Node) -> Convolution | None:
    """The convolution that `node` is, if the kernel can compute it."""
    x, weight_node, bias, stride, padding, dilation, groups = convolution_arguments(node)
    weight = constant_of(gm, weight_node)
    if weight is None or weight.dtype != torch.float32 or groups != 1 or set(dilation) != {1}:
        return None
    if len(shape_of(x)) != 4 or len(set(stride)) > 1 or len(set(padding)) > 1:
        return None
    inputs, _, width = weight.shape[1:]
    if inputs % CHANNELS and (inputs > FEW_CHANNELS or width > CHANNELS // FEW_CHANNELS):
        return None
    return Convolution(x, weight, bias, stride[0], padding[0])


def _over_pixels(gm: GraphModule, found: Convolution, shape: tuple[int, ...]) -> Convolution:
    """The same convolution of a padded image, in which the pixels under a row of the kernel are channels of one."""
    outputs, inputs, height, width = found.weight.shape
    span = CHANNELS // FEW_CHANNELS
    right = (shape[3] - 1) * found.stride + span - shape_of(found.x)[3] - found.padding
    sides = [found.padding, right, found.padding, found.padding, 0, FEW_CHANNELS - inputs]
    x = gm.graph.call_function(Aten.constant_pad_nd.default, (found.x, sides))
    filled = functional.pad(found.weight, (0, span - width, 0, 0, 0, FEW_CHANNELS - inputs))
    weight = filled.permute(0, 3, 1, 2).reshape(outputs, CHANNELS, height, 1)
    return Convolution(x, weight, found.bias, found.stride, 0)


def _channels_last(gm: GraphModule, image: Node) -> Node:
    return gm.graph.call_function(Aten.contiguous.default, (image,), {"memory_format": torch.channels_last})


def _cast(gm: GraphModule, image: Node, dtype: torch.dtype) -> Node:
    return gm.graph.call_function(Aten.to.dtype, (image, dtype))


def _takes_reduced(gm: GraphModule, user: Node, image: Node) -> bool:
    """Whether `user` is a convolution of the image, or its sum with one, or samples it for one, or hands it on to those
    alone.
    """
    if is_call(user, Aten.max_pool2d.default, Aten.contiguous.default, Aten.to.dtype, Aten.permute.default):
        return all(_takes_reduced(gm, next_user, user) for next_user in user.users)
    if is_call(user, Aten.add.Tensor, Aten.add_.Tensor):
        return any(
            is_call(term, Aten.conv2d.default) and _match(gm, term) is not None and _sum_after(term)[1] is image
            for term in user.args
            if isinstance(term, Node)
        )
    if is_call(user, OURS.conv2d.default, OURS.conv2d_relu.default, OURS.product.default, OURS.sample_taps.default):
        return True
    return is_call(user, Aten.conv2d.default) and _match(gm, user) is not None


def _sum_after(node: Node) -> tuple[Node, Node | None]:
    """The sum that alone reads `node`, and its other term; or the node itself and None."""
    users = list(node.users)
    if len(users) == 1 and is_call(users[0], Aten.add.Tensor, Aten.add_.Tensor) and "alpha" not in users[0].kwargs:
        first, second = users[0].args
        other = second if first is node else first
        if isinstance(other, Node) and other is not node and shape_of(other) == shape_of(node):
            return users[0], other
    return node, None
