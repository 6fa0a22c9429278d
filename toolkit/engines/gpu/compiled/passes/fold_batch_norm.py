"""Batch normalisation in inference is a scale and a shift: both move into the convolution before it."""

from __future__ import annotations

from typing import cast

from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_weights

from toolkit.engines.gpu.compiled.passes.graph_edit import (
    Aten,
    add_constant,
    calls,
    constant_of,
    convolution_arguments,
    finish,
    is_call,
    replace,
)


def fold_batch_norm(gm: GraphModule) -> int:
    """Fold each batch norm whose input is a convolution that nothing else reads; returns their number.

    Weights are scaled in float64 and rounded once.
    """
    return finish(gm, sum(_fold(gm, node) for node in calls(gm, Aten.batch_norm.default)))


def _fold(gm: GraphModule, norm: Node) -> bool:
    convolution, *statistics, training, _momentum, eps, _cudnn = norm.args
    if not is_call(convolution, Aten.conv2d.default) or training:
        return False
    assert isinstance(convolution, Node)
    source, *parameters, stride, padding, dilation, groups = convolution_arguments(convolution)
    given = [*parameters, *statistics]
    weight, bias, scale, shift, mean, variance = constants = [constant_of(gm, value) for value in given]
    computed = any(value is not None and tensor is None for value, tensor in zip(given, constants, strict=True))
    if computed or weight is None or mean is None or variance is None or len(convolution.users) > 1:
        return False
    wide_bias, wide_scale, wide_shift = (None if t is None else t.double() for t in (bias, scale, shift))
    fused = fuse_conv_bn_weights(
        weight.double(), wide_bias, mean.double(), variance.double(), cast(float, eps), wide_scale, wide_shift
    )
    with gm.graph.inserting_before(norm):
        folded = [add_constant(gm, t.to(weight.dtype)) for t in fused]
        new = gm.graph.call_function(Aten.conv2d.default, (source, *folded, stride, padding, dilation, groups))
    replace(norm, new)
    return True
