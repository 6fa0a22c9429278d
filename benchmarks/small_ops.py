"""Rotate, inverse and deformable convolution on a GPU: time of one launch, beside what bounds it.

    python -m benchmarks.small_ops

Times are medians of CUDA-graph replays of one launch, with several sets of inputs in rotation. "floor" is the larger of
the time of a kernel that does nothing and of the fewest bytes to move at 3 TB/s; "copy" is the time that torch takes to
copy the first input. Deformable convolution is compared with a plain matrix product of its size (its taps already
sampled), with torchvision's where that is installed, and with what the GPU session makes of it: samples of an image
whose channels lie together, "samples", then a product with the filters, "both". There offsets are FP32.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.command import run_benchmark
from benchmarks.replay import launch_latency, microseconds, sets_of
from custom_ops.inverse.op import inverse
from custom_ops.modulated_deformable_convolution.op import modulated_deformable_convolution
from custom_ops.rotate.op import rotate
from toolkit.engines.gpu.compiled.operators import conv2d, conv2d_relu, sample_taps, weight_parts
from toolkit.engines.gpu.session import require_gpu
from toolkit.precision import Precision

BYTES_PER_MICROSECOND = 3e6
IMAGES = {"tiny": (256, 50, 50), "base": (256, 200, 200)}
MATRICES = {
    "one 3x3": (1, 3, 3),
    "six 4x4": (6, 4, 4),
    "a million 3x3": (1 << 20, 3, 3),
    "a million 4x4": (1 << 20, 4, 4),
}
CONVOLUTIONS = {"stage 3": (6, 256, 58, 100), "stage 4": (6, 512, 29, 50)}
"""Images of UniAD-base's 3x3 layers, which keep channels and size."""


def image_inputs(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """A BEV, turned by a few degrees around its middle."""
    image, angle = torch.randn(shape, device="cuda"), 4 * torch.rand(1, device="cuda") - 2
    return image.to(dtype), angle.to(dtype), torch.tensor(shape[:0:-1], device="cuda", dtype=dtype) / 2


def matrix_inputs(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    return ((torch.rand(shape, device="cuda") + 4 * torch.eye(shape[-1], device="cuda")).to(dtype),)


def convolution_inputs(shape: tuple[int, ...], spread: float, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Image, offset (normal, with `spread` pixels of deviation), mask, weight."""
    batch, channels, height, width = shape
    inputs = (
        torch.randn(shape, device="cuda"),
        spread * torch.randn(batch, 18, height, width, device="cuda"),
        torch.rand(batch, 9, height, width, device="cuda"),
        torch.randn(channels, channels, 3, 3, device="cuda") / 48,
    )
    return tuple(x.to(dtype) for x in inputs)


def convolve(*inputs: Tensor) -> Tensor:
    convolved: Tensor = modulated_deformable_convolution(*inputs, 1, 1, 1)
    return convolved


def product_inputs(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """For samples and product: image with channels last, offset, mask, the product's weight, counters, bias."""
    image, offset, mask, weight = inputs
    taps = weight.permute(0, 2, 3, 1).reshape(len(weight), -1, 1, 1)
    if image.dtype == torch.float32:
        filters = weight_parts(taps.permute(0, 2, 3, 1).contiguous(), Precision.FP32)
    else:
        filters = taps.contiguous(memory_format=torch.channels_last)
    arrived = torch.zeros(2**16, dtype=torch.int32, device=weight.device)
    pixels = image.contiguous(memory_format=torch.channels_last)
    return pixels, offset.float(), mask.float(), filters, arrived, weight.new_zeros(len(weight))


def samples(image: Tensor, offset: Tensor, mask: Tensor, *others: Tensor) -> Tensor:
    sampled: Tensor = sample_taps(image, offset, mask, 3, 3, 1, 1, 1, image.dtype)
    return sampled


def samples_and_product(image: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *others: Tensor) -> Tensor:
    """With a ReLU where cuDNN's product has one."""
    arrived, bias = others
    sampled = samples(image, offset, mask)
    out: Tensor
    if image.dtype == torch.float32:
        out = conv2d(sampled, weight, None, None, arrived, 1, 0, False, False)
    else:
        out = conv2d_relu(sampled, weight, bias, None, 1, 0)
    return out


def copy(first: Tensor, *others: Tensor) -> Tensor:
    return first.clone()


def matrix_product(weight: Tensor, columns: Tensor) -> Tensor:
    return weight.flatten(1) @ columns


def torchvision_convolve(image: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    from torchvision.ops import deform_conv2d

    convolved: Tensor = deform_conv2d(image, offset, weight, padding=1, mask=mask)
    return convolved


def bound_rows(dtype: torch.dtype, latency: float) -> list[tuple[str, float, float, float]]:
    """Name of each call that moves bytes and computes little; its time, floor, and the time of a copy."""
    rows = []

    def add(name: str, call: Callable[..., Tensor], make: Callable[[torch.dtype], tuple[Tensor, ...]]) -> None:
        sets = sets_of(partial(make, dtype))
        moved = sum(x.nbytes for x in (*sets[0], call(*sets[0])))
        floor = max(latency, moved / BYTES_PER_MICROSECOND)
        rows.append((name, microseconds(call, sets), floor, microseconds(copy, sets)))

    for name, shape in IMAGES.items():
        for interpolation in ("nearest", "bilinear"):
            call = partial(rotate, interpolation=interpolation)
            add(f"rotate, {name}, {interpolation}", call, partial(image_inputs, shape))
    for name, shape in MATRICES.items():
        add(f"inverse, {name}", inverse, partial(matrix_inputs, shape))
    return rows


def convolution_rows(dtype: torch.dtype) -> list[tuple[str, float, float, float, float, float | None]]:
    """Name of each convolution; times of the kernel, of samples, these and a product, the product, and torchvision."""
    rows = []
    for name, shape in CONVOLUTIONS.items():
        batch, channels, height, width = shape
        for spread in (0.5, 1.0, 2.0):
            sets = sets_of(partial(convolution_inputs, shape, spread, dtype))
            columns = torch.randn(batch, channels * 9, height * width, device="cuda", dtype=dtype)
            product = microseconds(matrix_product, [(sets[0][3], columns)])
            other = None
            if importlib.util.find_spec("torchvision") is not None:
                other = microseconds(torchvision_convolve, sets)
            prepared = [product_inputs(inputs) for inputs in sets]
            ours = [
                microseconds(call, given)
                for call, given in ((convolve, sets), (samples, prepared), (samples_and_product, prepared))
            ]
            rows.append((f"{name}, offsets of {spread} pixels", ours[0], ours[1], ours[2], product, other))
    return rows


def main() -> None:
    """Print two tables."""
    require_gpu()
    torch.backends.cuda.matmul.allow_tf32 = False
    latency = launch_latency()
    title = f"{torch.cuda.get_device_name()}; a launch takes {latency:.2f} µs"
    bound = Table("call", "dtype", "µs", "floor µs", "copy µs", title=title)
    columns = ("kernel µs", "samples µs", "both µs", "matrix product µs", "torchvision µs")
    convolutions = Table("deformable convolution", "dtype", *columns)
    for dtype in (torch.float32, torch.float16):
        for name, *times in bound_rows(dtype, latency):
            bound.add_row(name, str(dtype)[6:], *(f"{time:.1f}" for time in times))
        for name, *found in convolution_rows(dtype):
            shown = ("not installed" if time is None else f"{time:.0f}" for time in found)
            convolutions.add_row(name, str(dtype)[6:], *shown)
    console = Console(width=120)
    console.print(bound)
    console.print(convolutions)


if __name__ == "__main__":
    run_benchmark(main)
