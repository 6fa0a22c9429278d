"""The operators that the compiled network calls where a library would launch slower or smaller kernels.

Each computes by torch on a CPU, where it is tested, and on a GPU by a Triton kernel, but for `conv2d_relu`, which is
cuDNN's. The weight of a product says its precision: FP16, BF16 and TF32 take one part of it, rounded; FP32 takes two
in FP16, rounded and what that left. On a CPU the other factor is rounded as by the kernels, but not in FP32, and sums
are FP32's, not those of tensor cores.

`arrived` is scratch of int32 zeros, which stays zero: one for each block whose sum several programs share.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.engines.gpu.compiled.kernels.launch import (
    launch_attention,
    launch_linear,
    launch_matmul,
    launch_product,
    launch_sampling,
)
from toolkit.nn.attention import mask_logits
from toolkit.nn.tap_samples import tap_samples
from toolkit.precision import Precision

REDUCED = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}
"""Types of the precisions that have one of 16 bits."""
TF32_KEPT = -0x2000
TF32_HALF = 0x1000
PAIR_SCALE, LOW_SCALE = 2.0**6, 2.0**11
"""Of both parts of a pair in FP16, and of the low one in addition, as in `product_kernel`."""
LARGEST_WEIGHT = 2.0**10 - 1
"""That a pair can hold."""


def weight_parts(weight: Tensor, precision: Precision) -> Tensor:
    """[parts, *weight.shape]: the parts of an FP32 weight that products in `precision` take.

    FP32 takes a pair in FP16, high and low, each scaled. `LARGEST_WEIGHT` is the largest that it can hold.
    """
    if precision in REDUCED:
        return weight.to(REDUCED[precision])[None]
    if precision is Precision.TF32:
        return ((weight.view(torch.int32) + TF32_HALF) & TF32_KEPT).view(torch.float32)[None]
    scaled = weight * PAIR_SCALE
    high = scaled.half()
    return torch.stack((high, ((scaled - high) * LOW_SCALE).half()))


def fits(weight: Tensor, precision: Precision) -> bool:
    """Whether products in `precision` can take an FP32 weight."""
    return precision is not Precision.FP32 or bool((weight.abs() <= LARGEST_WEIGHT).all())


def joined(parts: Tensor) -> Tensor:
    """The weight, in FP32, of which these are the parts."""
    if len(parts) == 1:
        return parts[0].float()
    return (parts[0].float() + parts[1].float() / LOW_SCALE) / PAIR_SCALE


def _rounded(factor: Tensor, precision: str) -> Tensor:
    """What products in `precision` take of a factor, in FP32."""
    return factor if precision == Precision.FP32 else weight_parts(factor, Precision(precision))[0].float()


def _rounded_like(x: Tensor, weight: Tensor) -> Tensor:
    """`x`, rounded as the parts of `weight` are."""
    one_part = {torch.float32: Precision.TF32} | {dtype: precision for precision, dtype in REDUCED.items()}
    return _rounded(x, Precision.FP32 if len(weight) == 2 else one_part[weight.dtype])


@torch.library.custom_op("uniad_gpu::linear", mutates_args=())
def linear(x: Tensor, weight: Tensor, bias: Tensor | None, arrived: Tensor, relu: bool) -> Tensor:
    """A linear layer and ReLU, if wanted: x [..., inputs], weight [parts, outputs, inputs] -> [..., outputs]."""
    out = functional.linear(_rounded_like(x, weight), joined(weight), bias)
    return out.relu() if relu else out


@linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, arrived: Tensor, relu: bool) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[1]))


@torch.library.impl("uniad_gpu::linear", "cuda")
def _(x: Tensor, weight: Tensor, bias: Tensor | None, arrived: Tensor, relu: bool) -> Tensor:
    outputs, inputs = weight.shape[1:]
    out = x.new_empty((*x.shape[:-1], outputs))
    rows = x.reshape(-1, inputs)
    rows = rows if rows.stride(1) == 1 else rows.contiguous()
    launch_linear(rows, weight, bias, out.view(-1, outputs), arrived, relu=relu)
    return out


@torch.library.custom_op("uniad_gpu::conv2d", mutates_args=())
def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    arrived: Tensor,
    stride: int,
    padding: int,
    relu: bool,
    reduced: bool,
) -> Tensor:
    """A convolution, plus `residual`, and ReLU, if wanted: [N, inputs, H, W] -> [N, outputs, H', W'].

    `weight` is [parts, outputs, kernel height, kernel width, inputs], or [parts, outputs, kernel height, 1, kernel
    width * inputs]. Images are channels-last in memory, and FP32; with `reduced`, the output has the weight's type.
    """
    outputs, height = weight.shape[1:3]
    taps = joined(weight).reshape(outputs, height, -1, x.shape[1]).permute(0, 3, 1, 2)
    out = functional.conv2d(_rounded_like(x, weight), taps, bias, stride, padding)
    out = out if residual is None else out + residual
    out = out.relu() if relu else out
    return out.to(weight.dtype if reduced else torch.float32, memory_format=torch.channels_last)


@conv2d.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    arrived: Tensor,
    stride: int,
    padding: int,
    relu: bool,
    reduced: bool,
) -> Tensor:
    return _empty_image(x, weight, stride, padding, reduced)


@torch.library.impl("uniad_gpu::conv2d", "cuda")
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    arrived: Tensor,
    stride: int,
    padding: int,
    relu: bool,
    reduced: bool,
) -> Tensor:
    out = _empty_image(x, weight, stride, padding, reduced)
    added = None if residual is None else _channels_last(residual)
    to = out.permute(0, 2, 3, 1)
    launch_product(_channels_last(x), weight, bias, added, to, arrived, relu=relu, stride=stride, padding=padding)
    return out


@torch.library.custom_op("uniad_gpu::conv2d_relu", mutates_args=())
def conv2d_relu(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, stride: int, padding: int) -> Tensor:
    """A convolution, plus `residual`, if wanted, and ReLU, all in FP16 or in BF16: cuDNN's fused one.

    `weight` is [outputs, inputs, kernel height, kernel width]; it and all images are channels-last in memory.
    """
    out = functional.conv2d(x.float(), weight.float(), bias.float(), stride, padding)
    out = out if residual is None else out + residual
    return out.relu().to(x.dtype, memory_format=torch.channels_last)


@conv2d_relu.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, stride: int, padding: int) -> Tensor:
    taps = weight.permute(0, 2, 3, 1)[None]
    return _empty_image(x, taps, stride, padding, reduced=True)


@torch.library.impl("uniad_gpu::conv2d_relu", "cuda")
def _(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, stride: int, padding: int) -> Tensor:
    sides = [stride, stride], [padding, padding], [1, 1], 1
    if residual is None:
        return torch.cudnn_convolution_relu(x, weight, bias, *sides)
    return torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, bias, *sides)


@torch.library.custom_op("uniad_gpu::product", mutates_args=())
def product(x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
    """A linear layer and ReLU, if wanted, all in FP16 or in BF16: cuBLAS's.

    x [..., inputs], weight [outputs, inputs] -> [..., outputs].
    """
    out = functional.linear(x.float(), weight.float(), bias.float())
    return (out.relu() if relu else out).to(x.dtype)


@product.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
    return x.new_empty((*x.shape[:-1], len(weight)))


@torch.library.impl("uniad_gpu::product", "cuda")
def _(x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
    outputs, inputs = weight.shape
    multiply = torch._addmm_activation if relu else torch.addmm
    out: Tensor = multiply(bias, x.reshape(-1, inputs), weight.t())
    return out.view(*x.shape[:-1], outputs)


@torch.library.custom_op("uniad_gpu::matmul", mutates_args=())
def matmul(a: Tensor, b: Tensor, precision: str) -> Tensor:
    """The product of two computed matrices: [batch, rows, N] and [batch, N, columns] -> [batch, rows, columns]."""
    return _rounded(a, precision) @ _rounded(b, precision)


@matmul.register_fake
def _(a: Tensor, b: Tensor, precision: str) -> Tensor:
    return a.new_empty((*a.shape[:2], b.shape[2]))


@torch.library.impl("uniad_gpu::matmul", "cuda")
def _(a: Tensor, b: Tensor, precision: str) -> Tensor:
    out = a.new_empty((*a.shape[:2], b.shape[2]))
    rows = a if a.stride(2) == 1 else a.contiguous()
    columns = b if 1 in b.stride()[1:] else b.transpose(1, 2).contiguous().transpose(1, 2)
    launch_matmul(rows, columns, out, precision=precision)
    return out


def _channels_last(image: Tensor) -> Tensor:
    """[N, C, H, W] as [N, H, W, C], contiguous: a view where it lies so in memory."""
    return image.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)


def _empty_image(x: Tensor, weight: Tensor, stride: int, padding: int, reduced: bool) -> Tensor:
    _, outputs, height, width, inputs = weight.shape
    kernel = height, width * inputs // x.shape[1]
    size = [(side + 2 * padding - taps) // stride + 1 for side, taps in zip(x.shape[2:], kernel, strict=True)]
    dtype = weight.dtype if reduced else torch.float32
    shape = (x.shape[0], outputs, *size)
    return torch.empty(shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)


@torch.library.custom_op("uniad_gpu::sample_taps", mutates_args=())
def sample_taps(
    image: Tensor,
    offset: Tensor,
    mask: Tensor,
    kernel_height: int,
    kernel_width: int,
    stride: int,
    padding: int,
    dilation: int,
    dtype: torch.dtype,
) -> Tensor:
    """Samples of `image` (bilinear, zeros outside) at offsets from the taps, each times its mask.

    With T = kernel_height * kernel_width taps, all channels of an image sharing their offsets: image [N, C, H, W];
    offset [N, T*2, Ho, Wo] as (y, x) in pixels and mask [N, T, Ho, Wo], FP32 -> [N, T*C, Ho, Wo] in `dtype`, the
    channels of a tap together. Images are channels-last in memory. Positions and interpolation are FP32.
    """
    size = kernel_height, kernel_width
    samples = tap_samples(image.float(), offset, mask, size, stride, padding, dilation)[:, 0].transpose(1, 2)
    out = samples.reshape(len(image), -1, *mask.shape[2:])
    return out.to(dtype, memory_format=torch.channels_last)


@sample_taps.register_fake
def _(
    image: Tensor,
    offset: Tensor,
    mask: Tensor,
    kernel_height: int,
    kernel_width: int,
    stride: int,
    padding: int,
    dilation: int,
    dtype: torch.dtype,
) -> Tensor:
    return _empty_samples(image, mask, dtype)


@torch.library.impl("uniad_gpu::sample_taps", "cuda")
def _(
    image: Tensor,
    offset: Tensor,
    mask: Tensor,
    kernel_height: int,
    kernel_width: int,
    stride: int,
    padding: int,
    dilation: int,
    dtype: torch.dtype,
) -> Tensor:
    out = _empty_samples(image, mask, dtype)
    size = kernel_height, kernel_width
    launch_sampling(_channels_last(image), offset, mask, out, size, stride, padding, dilation)
    return out


def _empty_samples(image: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
    shape = (image.shape[0], mask.shape[1] * image.shape[1], *mask.shape[2:])
    return torch.empty(shape, dtype=dtype, device=image.device, memory_format=torch.channels_last)


@torch.library.custom_op("uniad_gpu::attention", mutates_args=())
def attention(
    query: Tensor, key: Tensor, value: Tensor, valid: Tensor | None, arrived: Tensor, scale: float, precision: str
) -> Tensor:
    """Scaled dot-product attention: [batch, heads, queries, width], keys alike -> [batch, queries, heads, width].

    `valid` is a bool mask that can be expanded to [batch, heads, queries, keys]; where it is False, the logit is
    replaced by `toolkit.nn.attention.MASKED_LOGIT`. `precision` is that of both products. Weights are rounded before
    they are divided by their sum: on a CPU relative to the largest of a row, in the kernel to the largest so far.
    """
    queries, keys, values = (_rounded(x, precision) for x in (query * scale, key, value))
    logits = mask_logits(queries @ keys.transpose(-1, -2), valid)
    weights = (logits - logits.amax(-1, keepdim=True)).exp()
    out = _rounded(weights, precision) @ values / weights.sum(-1, keepdim=True)
    return out.transpose(1, 2).contiguous()


@attention.register_fake
def _(
    query: Tensor, key: Tensor, value: Tensor, valid: Tensor | None, arrived: Tensor, scale: float, precision: str
) -> Tensor:
    batch, heads, queries, width = query.shape
    return query.new_empty((batch, queries, heads, width))


@torch.library.impl("uniad_gpu::attention", "cuda")
def _(
    query: Tensor, key: Tensor, value: Tensor, valid: Tensor | None, arrived: Tensor, scale: float, precision: str
) -> Tensor:
    batch, heads, queries, width = query.shape
    out = query.new_empty((batch, queries, heads, width))
    rows = [x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value)]
    mask = None if valid is None else valid.expand(batch, heads, queries, key.shape[2])
    launch_attention(rows[0], rows[1], rows[2], mask, out, arrived, scale=scale, precision=precision)
    return out


OF_TRITON = {
    getattr(torch.ops.uniad_gpu, name).default: name
    for name in ("linear", "conv2d", "matmul", "sample_taps", "attention")
}
"""The operators that are kernels of Triton's on a GPU, with their names; the others are libraries'."""
