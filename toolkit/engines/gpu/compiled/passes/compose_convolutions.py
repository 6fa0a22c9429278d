"""A pointwise convolution and the convolution that follows it are one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.graph_edit import (
    Aten,
    add_constant,
    calls,
    constant_of,
    convolution_arguments,
    finish,
    is_call,
    replace,
    shape_of,
)


def compose_convolutions(gm: GraphModule) -> int:
    """Replace conv(pointwise(x)) by one convolution where that multiplies less; returns the number replaced.

    The second pads the first's result, bias included, by zeros, so that the bias reaches fewer outputs at the border:
    what it adds to each pixel becomes a constant image. Computed in float64 and rounded once.
    """
    return finish(gm, sum(_compose(gm, node) for node in calls(gm, Aten.conv2d.default)))


def _compose(gm: GraphModule, outer: Node) -> bool:
    inner = outer.args[0]
    if not is_call(inner, Aten.conv2d.default) or not isinstance(inner, Node) or len(inner.users) > 1:
        return False
    first, second = (_settings(gm, node) for node in (inner, outer))
    weight, outer_weight = (constant_of(gm, node.args[1]) for node in (inner, outer))
    if first is None or second is None or weight is None or outer_weight is None:
        return False
    pointwise = weight.shape[2:] == (1, 1) and first[1:] == ((1, 1), (0, 0), (1, 1), 1)
    if not pointwise or second[-1] != 1 or len(shape_of(inner)) != 4:
        return False
    product = torch.einsum("omhw,mi->oihw", outer_weight.double(), weight[:, :, 0, 0].double())
    if product.numel() >= weight.numel() + outer_weight.numel():
        return False
    bias, *geometry = second
    image = _bias_image(first[0], weight, shape_of(inner))
    shift = torch.conv2d(image, outer_weight.double(), None if bias is None else bias.double(), *geometry)
    settings: list[Any] = [list(value) if isinstance(value, tuple) else value for value in geometry]
    with gm.graph.inserting_before(outer):
        kernel, added = (add_constant(gm, tensor.to(weight.dtype)) for tensor in (product, shift))
        composed = gm.graph.call_function(Aten.conv2d.default, (inner.args[0], kernel, None, *settings))
        replace(outer, gm.graph.call_function(Aten.add.Tensor, (composed, added)))
    return True


def _settings(gm: GraphModule, node: Node) -> tuple[Any, ...] | None:
    """Bias (a tensor, if any), stride, padding, dilation and groups; None where the bias is not a constant."""
    _, _, bias, *geometry = convolution_arguments(node)
    constant = constant_of(gm, bias)
    if bias is not None and constant is None:
        return None
    return (constant, *(tuple(value) if isinstance(value, list | tuple) else value for value in geometry))


def _bias_image(bias: Tensor | None, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
    """[1, channels, height, width]: the pointwise convolution of zeros."""
    constant = weight.new_zeros(weight.shape[0]) if bias is None else bias
    return constant.double()[None, :, None, None].expand(1, *shape[1:])
