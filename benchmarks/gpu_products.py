"""The compiled network's kernels at sizes of UniAD-tiny: time and error, beside the libraries of torch.

    python -m benchmarks.gpu_products [--json FILE]

Linear layers are compared with cuBLAS, convolutions (channels last) with cuDNN, attention without a mask with PyTorch's
scaled dot-product attention. Times are medians of CUDA-graph replays of one launch, all on one set of inputs, so that
these are in the L2 cache if they fit. The error is the relative L2 error against float64 on the same FP32 inputs, also
where a library takes them rounded to FP16. In FP16 and BF16 our convolutions read and write images of that type, as
between convolutions of the network; linear layers and attention read and write FP32.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Protocol

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from benchmarks.command import run_benchmark
from benchmarks.replay import microseconds
from toolkit.benchmarking.environment import environment
from toolkit.engines.gpu.compiled.operators import attention, conv2d, linear, weight_parts
from toolkit.engines.gpu.compiled.tf32 import tf32
from toolkit.precision import Precision

MOST_BLOCKS = 2**16
"""More than any of these results has."""
DTYPES = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}
"""Of a library's tensors; FP32 in the other precisions."""


class Case(Protocol):
    """One call with random inputs."""

    def inputs(self, device: str) -> tuple[Tensor, ...]:
        """Those of `library`, in FP32."""

    def library(self, *inputs: Tensor) -> Tensor:
        """By torch, in the type of the inputs."""

    def ours(self, precision: Precision, *inputs: Tensor) -> Callable[[], Tensor]:
        """By our operator, weights prepared."""


@dataclass(frozen=True)
class Linear:
    """A linear layer over so many rows."""

    rows: int
    features: int
    outputs: int

    def inputs(self, device: str) -> tuple[Tensor, ...]:
        x, bias = torch.randn(self.rows, self.features, device=device), torch.randn(self.outputs, device=device)
        return x, torch.randn(self.outputs, self.features, device=device) / self.features**0.5, bias

    def library(self, *inputs: Tensor) -> Tensor:
        return functional.linear(*inputs)

    def ours(self, precision: Precision, *inputs: Tensor) -> Callable[[], Tensor]:
        x, weight, bias = inputs
        parts, arrived = weight_parts(weight, precision), counters(x.device)
        return lambda: linear(x, parts, bias, arrived, False)


@dataclass(frozen=True)
class Convolution:
    """Of images with as many channels as it gives, at stride 1 and of the same size."""

    images: int
    channels: int
    height: int
    width: int
    kernel: int

    def inputs(self, device: str) -> tuple[Tensor, ...]:
        x = torch.randn(self.images, self.channels, self.height, self.width, device=device)
        weight = torch.randn(self.channels, self.channels, self.kernel, self.kernel, device=device)
        weight /= self.kernel * self.channels**0.5
        bias = torch.randn(self.channels, device=device)
        return *(t.contiguous(memory_format=torch.channels_last) for t in (x, weight)), bias

    def library(self, *inputs: Tensor) -> Tensor:
        image, weight, bias = inputs
        return functional.conv2d(image, weight, bias, padding=self.kernel // 2)

    def ours(self, precision: Precision, *inputs: Tensor) -> Callable[[], Tensor]:
        x, weight, bias = inputs
        parts, arrived = weight_parts(weight.permute(0, 2, 3, 1).contiguous(), precision), counters(x.device)
        image, reduced = x.to(DTYPES.get(precision, x.dtype)), precision in DTYPES
        return lambda: conv2d(image, parts, bias, None, arrived, 1, self.kernel // 2, False, reduced)


@dataclass(frozen=True)
class AttentionCase:
    """Of queries to keys, in heads of 32 features."""

    batch: int
    heads: int
    queries: int
    keys: int

    def inputs(self, device: str) -> tuple[Tensor, ...]:
        return tuple(
            torch.randn(self.batch, self.heads, count, 32, device=device)
            for count in (self.queries, self.keys, self.keys)
        )

    def library(self, *inputs: Tensor) -> Tensor:
        query, key, value = inputs
        return functional.scaled_dot_product_attention(query, key, value)

    def ours(self, precision: Precision, *inputs: Tensor) -> Callable[[], Tensor]:
        arrived = counters(inputs[0].device)
        return lambda: attention(*inputs, None, arrived, 32**-0.5, str(precision)).transpose(1, 2)


CASES: dict[str, Case] = {
    "linear, 2500 x 256 -> 256 (BEV)": Linear(2500, 256, 256),
    "linear, 2500 x 512 -> 256 (BEV)": Linear(2500, 512, 256),
    "linear, 1150 x 256 -> 256 (tracks)": Linear(1150, 256, 256),
    "linear, 774 x 3072 -> 256 (motion)": Linear(774, 3072, 256),
    "linear, 300 x 256 -> 256 (map)": Linear(300, 256, 256),
    "convolution 1x1, 256 channels, 6 x 64 x 104": Convolution(6, 256, 64, 104, 1),
    "convolution 3x3, 64 channels, 6 x 64 x 104": Convolution(6, 64, 64, 104, 3),
    "convolution 3x3, 128 channels, 6 x 32 x 52": Convolution(6, 128, 32, 52, 3),
    "convolution 3x3, 256 channels, 6 x 16 x 26": Convolution(6, 256, 16, 26, 3),
    "convolution 3x3, 512 channels, 6 x 8 x 13": Convolution(6, 512, 8, 13, 3),
    "convolution 3x3, 256 channels, 50 x 50": Convolution(1, 256, 50, 50, 3),
    "attention, 8 heads, 1150 to 1150 (tracks)": AttentionCase(1, 8, 1150, 1150),
    "attention, 8 heads, 774 to 300 (motion, map)": AttentionCase(1, 8, 774, 300),
    "attention, 8 heads, 100 to 2500 (map, BEV)": AttentionCase(1, 8, 100, 2500),
}


@dataclass(frozen=True)
class Figures:
    """Of one call in one precision: microseconds and errors."""

    call: str
    precision: Precision
    library: float
    ours: float
    library_error: float
    error: float


def main(output: Annotated[Path | None, typer.Option("--json", help="File to write all figures to.")] = None) -> None:
    """Time the kernels of products and attention on the GPU at hand, and compare them with float64."""
    if not torch.cuda.is_available():
        raise SystemExit("needs a CUDA GPU and a torch built for it")
    figures = [each for name, case in CASES.items() for each in measure(name, case)]
    Console(width=130).print(table(figures))
    if output is not None:
        written = {"environment": environment("cuda"), "figures": [asdict(each) for each in figures]}
        output.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def measure(name: str, case: Case, device: str = "cuda") -> Iterator[Figures]:
    """Time and error of a call in each precision."""
    torch.manual_seed(0)
    inputs = case.inputs(device)
    exact = case.library(*(tensor.double() for tensor in inputs))
    for precision in Precision:
        with torch.inference_mode(), tf32(precision is Precision.TF32):
            ours = case.ours(precision, *inputs)
            given = [tensor.to(DTYPES.get(precision, torch.float32)) for tensor in inputs]
            yield Figures(
                name,
                precision,
                microseconds(case.library, [tuple(given)]),
                microseconds(ours, [()]),
                error(case.library(*given), exact),
                error(ours(), exact),
            )


def error(actual: Tensor, exact: Tensor) -> float:
    """Relative L2."""
    return float((actual.double() - exact).norm() / exact.norm())


def counters(device: torch.device) -> Tensor:
    """The operators' `arrived`."""
    return torch.zeros(MOST_BLOCKS, dtype=torch.int32, device=device)


def table(figures: list[Figures]) -> Table:
    """One row a call and precision."""
    title = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    columns = ("call", "precision", "library µs", "ours µs", "library's error", "our error")
    rows = Table(*columns, title=title)
    for each in figures:
        times, errors = (each.library, each.ours), (each.library_error, each.error)
        rows.add_row(each.call, each.precision, *(f"{t:.1f}" for t in times), *(f"{e:.1e}" for e in errors))
    return rows


if __name__ == "__main__":
    run_benchmark(main)
