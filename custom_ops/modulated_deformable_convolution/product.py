"""Deformable convolution as a matrix product of its filters and samples of the image, for graphs of the GPU session."""

from __future__ import annotations

from math import prod

import torch
from torch.fx import GraphModule, Node

from custom_ops.modulated_deformable_convolution.op import MODULATED_DEFORMABLE_CONVOLUTION
from toolkit.engines.gpu.compiled.passes.graph_edit import (
    Aten,
    add_constant,
    calls,
    constant_of,
    finish,
    replace,
    shape_of,
)
from toolkit.engines.gpu.compiled.passes.use_linear import CHANNELS

MOST_SAMPLES = 2**31 - 1
"""That are addressed."""


def convolve_samples(gm: GraphModule) -> int:
    """Make each deformable convolution a pointwise one, of an image that has as channels the samples of all taps and
    channels; returns their number.

    Those stay that have groups, several sets of offsets, a computed weight, or other channels than multiples of 32.
    """
    return finish(gm, sum(_convolve(gm, node) for node in calls(gm, MODULATED_DEFORMABLE_CONVOLUTION.overload)))


def _convolve(gm: GraphModule, node: Node) -> bool:
    image, offset, mask, filters, stride, padding, dilation = node.args
    assert isinstance(image, Node)
    assert isinstance(mask, Node)
    weight = constant_of(gm, filters)
    if weight is None or weight.dtype != torch.float32:
        return False
    outputs, inputs, height, width = weight.shape
    batch, channels = shape_of(image)[:2]
    if channels != inputs or channels % CHANNELS or shape_of(mask)[1] != height * width:
        return False
    if batch * channels * prod(shape_of(mask)[1:]) > MOST_SAMPLES:
        return False
    with gm.graph.inserting_before(node):
        pixels = gm.graph.call_function(Aten.contiguous.default, (image,), {"memory_format": torch.channels_last})
        args = (pixels, offset, mask, height, width, stride, padding, dilation, torch.float32)
        samples = gm.graph.call_function(torch.ops.uniad_gpu.sample_taps.default, args)
        taps = add_constant(gm, weight.permute(0, 2, 3, 1).reshape(outputs, -1, 1, 1))
        new = gm.graph.call_function(Aten.conv2d.default, (samples, taps))
    replace(node, new)
    return True
