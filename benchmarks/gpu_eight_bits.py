"""Products of the GPU session in FP16 beside the same in FP8 and INT8: would a frame be faster?

    python -m benchmarks.gpu_eight_bits [--config CONFIG.toml] --list products.json     # needs no GPU
    python -m benchmarks.gpu_eight_bits [--products products.json] [--json FILE]

Every linear layer and convolution of the compiled network that FP16 reduces, at its own size, as often as a frame has
it. Inputs are random, and the same in each launch of a CUDA graph, so that they lie in the L2 cache if they fit.

| way | |
|---|---|
| session | FP16 as the session computes it: our kernel or cuDNN's, with bias, sum and ReLU |
| FP16 library | cuBLAS, with factors that are FP16 in memory already |
| FP8 | our kernel with a weight in FP8, which rounds what it reads: no launch more than now |
| FP8 stored | the same of what the layer before has rounded and stored in FP8; images are given in FP8 again |
| FP8 library, INT8 library | cuBLAS on factors that are rounded already, without bias and ReLU: less than a layer |
| rounding | what the library's two take besides, where no kernel before rounds: one launch |

The scales of a quantized network are left out of our kernel, where they would be two multiplications in registers. A
sum over the frame says what all of it takes one after the other; in the session parts of it run side by side.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, cast

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.nn import functional

from benchmarks.command import run_benchmark
from benchmarks.gpu_network import pseudo_network
from benchmarks.replay import microseconds
from toolkit.benchmarking.environment import environment
from toolkit.config.file import load_config
from toolkit.config.model import ModelConfig
from toolkit.engines.gpu.compiled.kernels.tiles import product_tile
from toolkit.engines.gpu.compiled.operators import conv2d, conv2d_relu, linear
from toolkit.engines.gpu.compiled.rewrite import RewrittenPart, rewrite_network
from toolkit.precision import Precision

FP8 = torch.float8_e4m3fn
LARGEST_FP8 = 448.0
SESSION, LIBRARY = "session", "FP16 library"
OURS, STORED = "FP8", "FP8 stored"
FP8_LIBRARY, INT8_LIBRARY, ROUNDING = "FP8 library", "INT8 library", "rounding"
WAYS = (SESSION, LIBRARY, OURS, STORED, FP8_LIBRARY, INT8_LIBRARY)
FEWEST_ROWS = 17
"""That cuBLAS multiplies in INT8."""
LAUNCHED = 600.0
"""Microseconds that the launches in a graph take together, about."""
GPU = "cuda"
Sizes = tuple[int, int, int, int]


@dataclass(frozen=True)
class Product:
    """A linear layer, or a convolution: `image` is [batch, channels, height, width], `weight` [outputs, kernel height,
    kernel width, channels]. A linear layer's rows are the batch.

    `reads` and `writes` name types of torch in memory; `cudnn` says that the convolution is the library's.
    """

    image: Sizes
    weight: Sizes
    stride: int
    padding: int
    reads: str
    writes: str
    relu: bool
    residual: bool
    linear: bool
    cudnn: bool

    @property
    def kind(self) -> str:
        """The class of layers that it counts to."""
        if self.linear:
            return "linear"
        return "convolution 1x1" if self.weight[1:3] == (1, 1) else "convolution, larger"

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the result."""
        kernel = self.weight[1], self.weight[2] * self.weight[3] // self.image[1]
        height, width = (
            (s + 2 * self.padding - k) // self.stride + 1 for s, k in zip(self.image[2:], kernel, strict=True)
        )
        return height, width

    @property
    def matrix(self) -> tuple[int, int, int]:
        """Rows, elements of a sum, columns."""
        return self.image[0] * prod(self.out_size), prod(self.weight[1:]), self.weight[0]

    def __str__(self) -> str:
        rows, length, columns = self.matrix
        if self.linear:
            return f"linear, {rows} x {length} -> {columns}"
        kernel, batch, (height, width) = self.weight[1], self.image[0], self.out_size
        stride = f" / {self.stride}" if self.stride > 1 else ""
        return f"{kernel}x{kernel}{stride}, {self.image[1]} -> {columns}, {batch} x {height} x {width}"


@dataclass(frozen=True)
class Figures:
    """Of one product: how often a frame has it, microseconds of each way that can compute it, and FP8's error."""

    product: Product
    count: int
    times: Mapping[str, float]
    error: float


def main(
    config: Annotated[Path | None, typer.Option(help="Config of the model; UniAD-tiny by default.")] = None,
    listed: Annotated[Path | None, typer.Option("--list", help="File to list products in, and no more.")] = None,
    products: Annotated[Path | None, typer.Option(help="Such a file; without it the network is rewritten.")] = None,
    output: Annotated[Path | None, typer.Option("--json", help="File to write all figures to.")] = None,
) -> None:
    """Time every product of a frame in FP16, FP8 and INT8."""
    if listed is None and not torch.cuda.is_available():
        raise SystemExit("needs a CUDA GPU and a torch built for it; --list needs none")
    if products is None:
        model = ModelConfig() if config is None else load_config(config)
        counted = reduced_products(rewrite_network(pseudo_network(model), Precision.FP16))
    else:
        counted = read_products(products)
    if listed is not None:
        listed.write_text(json.dumps([asdict(p) | {"count": n} for p, n in counted.items()]) + "\n", encoding="utf-8")
        return
    figures = list(measured(counted))
    Console(width=150).print(*tables(figures))
    if output is not None:
        written = {"environment": environment(GPU), "figures": [asdict(each) for each in figures]}
        output.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def reduced_products(parts: Iterable[RewrittenPart]) -> Counter[Product]:
    """The products of a rewritten network that are not FP32, counted."""
    found = Counter[Product]()
    for part in parts:
        if part.precision is not Precision.FP32:
            found.update(_products(part.module))
    return found


def _products(gm: GraphModule) -> Iterator[Product]:
    """Those of a graph in order."""
    for node in gm.graph.nodes:
        if node.op != "call_function" or str(node.target).split(".")[0] != "uniad_gpu":
            continue
        operator = str(node.target).split(".")[1]
        if operator == "attention":
            continue
        x, weight, out = (_value(gm, each) for each in (node.args[0], node.args[1], node))
        types = str(x.dtype).split(".")[1], str(out.dtype).split(".")[1]
        if operator == "linear":
            rows, (outputs, inputs) = prod(x.shape[:-1]), weight.shape[1:]
            yield Product((rows, inputs, 1, 1), (outputs, 1, 1, inputs), 1, 0, *types, node.args[4], False, True, False)
            continue
        cudnn = operator == "conv2d_relu"
        residual, (stride, padding) = node.args[3], node.args[4 if cudnn else 5 :][:2]
        taps = weight.permute(0, 2, 3, 1) if cudnn else weight[0]
        relu = cudnn or node.args[7]
        sizes = cast(Sizes, tuple(x.shape)), cast(Sizes, tuple(taps.shape))
        yield Product(*sizes, stride, padding, *types, relu, residual is not None, False, cudnn)


def _value(gm: GraphModule, node: Any) -> Tensor:
    """What a node gives, or a fake of it."""
    value: Tensor = node.meta["val"] if isinstance(node, Node) and "val" in node.meta else getattr(gm, node.target)
    return value


def read_products(file: Path) -> Counter[Product]:
    """What --list has written."""
    read = Counter[Product]()
    for each in json.loads(file.read_text(encoding="utf-8")):
        count = each.pop("count")
        read[Product(**each | {"image": tuple(each["image"]), "weight": tuple(each["weight"])})] += count
    return read


def measured(counted: Mapping[Product, int], device: str = GPU) -> Iterator[Figures]:
    """The times of each product in each way."""
    with torch.inference_mode():
        for product, count in counted.items():
            torch.manual_seed(0)
            calls = ways(product, device)
            error = relative(calls[OURS](), calls[SESSION]()) if OURS in calls else float("nan")
            yield Figures(product, count, {way: timed(call) for way, call in calls.items()}, error)


def timed(call: Callable[[], object]) -> float:
    """Microseconds of a call."""
    first = microseconds(call, [()], launches=2)
    return microseconds(call, [()], launches=max(2, min(40, int(LAUNCHED / first))))


def ways(product: Product, device: str) -> dict[str, Callable[[], Tensor]]:
    """What computes a product, by the name of the way, and what rounds its input."""
    from toolkit.engines.gpu.compiled.kernels.launch import launch_product

    batch, channels, height, width = product.image
    rows, length, columns = product.matrix
    reads, writes = getattr(torch, product.reads), getattr(torch, product.writes)
    x = torch.randn(batch, height, width, channels, device=device).to(reads)
    weight = torch.randn(product.weight, device=device) / length**0.5
    bias = torch.randn(columns, device=device)
    shape = (batch, *product.out_size, columns)
    residual = torch.randn(shape, device=device).to(writes) if product.residual else None
    half, eight = weight.half(), weight.to(FP8)
    programs = product_tile(rows, eight[None]).programs(rows, columns)
    arrived = torch.zeros(programs, dtype=torch.int32, device=device)

    def ours(read: Tensor, gives: torch.dtype) -> Tensor:
        out = torch.empty(shape, dtype=gives, device=device)
        launch_product(
            read, eight[None], bias, residual, out, arrived,
            relu=product.relu, stride=product.stride, padding=product.padding,
        )  # fmt: skip
        return out

    rounded = x.to(FP8)
    image = x.permute(0, 3, 1, 2)
    added = None if residual is None else residual.permute(0, 3, 1, 2)
    calls: dict[str, Callable[[], Tensor]] = {}
    if product.linear:
        flat = x.view(rows, channels)
        parts = half.view(1, columns, channels)
        calls[SESSION] = lambda: linear(flat, parts, bias, arrived, product.relu)
    elif product.cudnn:
        taps, small = half.permute(0, 3, 1, 2), bias.half()
        calls[SESSION] = lambda: conv2d_relu(image, taps, small, added, product.stride, product.padding)
    else:
        calls[SESSION] = lambda: conv2d(
            image, half[None], bias, added, arrived, product.stride, product.padding, product.relu, writes is torch.half
        )
    calls[OURS] = lambda: ours(x, writes)
    calls[STORED] = lambda: ours(rounded, FP8 if writes is torch.half and residual is None else writes)
    if product.weight[1:3] == (1, 1) and product.stride == 1:
        calls |= library_ways(x.view(rows, channels), weight.view(columns, channels), writes)
    return calls


def library_ways(x: Tensor, weight: Tensor, writes: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    """A product by cuBLAS, as far as it takes the sizes: x [rows, inputs], weight [outputs, inputs]."""
    half, half_weight = x.half(), weight.half()
    calls: dict[str, Callable[[], Tensor]] = {LIBRARY: lambda: functional.linear(half, half_weight)}
    if x.shape[1] % 16 or weight.shape[0] % 16:
        return calls
    eight, eight_weight, one = x.to(FP8), weight.to(FP8).t(), torch.ones((), device=x.device)
    codes, code_weight = (x * 30).to(torch.int8), (weight * 30).to(torch.int8).t()
    calls[FP8_LIBRARY] = lambda: torch._scaled_mm(
        eight, eight_weight, scale_a=one, scale_b=one, out_dtype=writes, use_fast_accum=True
    )
    if len(x) >= FEWEST_ROWS:
        calls[INT8_LIBRARY] = lambda: torch._int_mm(codes, code_weight)
    calls[ROUNDING] = lambda: rounding(x.flatten(), one)
    return calls


@torch.compile(dynamic=True)
def rounding(x: Tensor, scale: Tensor) -> Tensor:
    """A tensor in FP8: one kernel."""
    return (x.float() * scale).clamp(-LARGEST_FP8, LARGEST_FP8).to(FP8)


def relative(actual: Tensor, expected: Tensor) -> float:
    """Relative L2 difference, where shapes are those of images in one and channels-last in the other."""
    given = actual.float().flatten()
    other = expected.permute(0, 2, 3, 1) if expected.dim() == 4 else expected
    return float((given - other.float().flatten()).norm() / given.norm())


def tables(figures: Sequence[Figures]) -> tuple[Table, Table]:
    """One row a product, the most expensive first; then sums over the frame."""
    title = f"{torch.cuda.get_device_name()}, torch {torch.__version__}: µs of a launch"
    rows = Table("a frame has", "product", *WAYS, ROUNDING, "FP8 error", title=title)
    for each in sorted(figures, key=lambda f: -f.count * f.times[SESSION]):
        times = (f"{each.times[way]:.1f}" if way in each.times else "" for way in (*WAYS, ROUNDING))
        rows.add_row(str(each.count), str(each.product), *times, f"{each.error:.1e}")
    kinds = sorted({each.product.kind for each in figures})
    sums = Table("", *kinds, "all", title="µs over a frame; what a way cannot compute counts as in the session")
    for way, chosen in choices().items():
        totals = [
            sum(f.count * chosen(f.times) for f in figures if kind in (f.product.kind, "all"))
            for kind in (*kinds, "all")
        ]
        sums.add_row(way, *(f"{total:.0f}" for total in totals))
    return rows, sums


def choices() -> dict[str, Callable[[Mapping[str, float]], float]]:
    """What a product takes by each way, and by the faster one of the session's and another."""
    rounded = {f"{way} + {ROUNDING}": (way, ROUNDING) for way in (FP8_LIBRARY, INT8_LIBRARY)}
    steps = {way: (way,) for way in WAYS} | rounded

    def always(way: str) -> Callable[[Mapping[str, float]], float]:
        return lambda times: sum(times[s] for s in steps[way]) if steps[way][0] in times else times[SESSION]

    def faster(way: str) -> Callable[[Mapping[str, float]], float]:
        return lambda times: min(times[SESSION], always(way)(times))

    return {way: always(way) for way in steps} | {f"{SESSION} or {w}": faster(w) for w in steps if w != SESSION}


if __name__ == "__main__":
    run_benchmark(main)
