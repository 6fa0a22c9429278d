"""The script that times products of 8 bits, with torch on the CPU in place of the kernels, and made-up times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import gpu_eight_bits
from benchmarks.gpu_eight_bits import FP8_LIBRARY, OURS, ROUNDING, SESSION, STORED, Figures, Product, choices
from toolkit.engines.gpu.compiled.export import export_graph
from toolkit.engines.gpu.compiled.kernels import launch
from toolkit.engines.gpu.compiled.pipeline import optimize
from toolkit.engines.gpu.compiled.rewrite import RewrittenPart
from toolkit.precision import Precision

LINEAR = Product((5, 64, 1, 1), (48, 1, 1, 64), 1, 0, "float32", "float32", True, False, True, False)
POINTWISE = Product((2, 32, 4, 6), (48, 1, 1, 32), 1, 0, "float16", "float16", True, True, False, False)
STRIDED = Product((2, 32, 5, 7), (48, 3, 3, 32), 2, 1, "float16", "float16", True, False, False, True)
FP8_ROUNDING = 0.06
"""Twice what E4M3's 3 bits of mantissa leave of two factors."""


class Layers(nn.Module):
    """Convolutions in a row and a linear layer, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.large = nn.Conv2d(32, 64, 1), nn.Conv2d(64, 64, 3, padding=1)
        self.last, self.linear = nn.Conv2d(64, 32, 1), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        image = self.last(self.large(self.first(x).relu().sigmoid()).relu())
        rows: Tensor = self.linear(image.flatten(2).transpose(1, 2)).sigmoid()
        result: Tensor = self.linear(rows)
        return result


def test_products_of_a_rewritten_network_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of parts in FP32 are left out; a file has what was counted."""
    module = export_graph(Layers().eval(), [torch.randn(2, 32, 4, 6)])
    optimize(module, Precision.FP16)
    parts = [RewrittenPart("any", precision, module, (), ()) for precision in (Precision.FP16, Precision.FP32)]
    counted = gpu_eight_bits.reduced_products(parts)
    assert {str(product): (product.reads, product.writes, count) for product, count in counted.items()} == {
        "1x1, 32 -> 64, 2 x 4 x 6": ("float32", "float32", 1),
        "3x3, 64 -> 64, 2 x 4 x 6": ("float16", "float16", 1),
        "1x1, 64 -> 32, 2 x 4 x 6": ("float16", "float32", 1),
        "linear, 48 x 32 -> 32": ("float32", "float32", 2),
    }
    assert [product.cudnn for product in counted] == [False, True, False, False]
    monkeypatch.setattr(gpu_eight_bits, "rewrite_network", lambda network, precision: parts)
    monkeypatch.setattr(gpu_eight_bits, "pseudo_network", lambda config: None)
    gpu_eight_bits.main(listed=tmp_path / "products.json")
    assert gpu_eight_bits.read_products(tmp_path / "products.json") == counted


@pytest.mark.parametrize("product", [LINEAR, POINTWISE, STRIDED], ids=str)
def test_every_way_computes_the_same(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as FP8 goes; sizes that the library does not take are left out."""
    monkeypatch.setattr(launch, "launch_product", convolve)
    calls = gpu_eight_bits.ways(product, "cpu")
    expected = calls[SESSION]()
    for way in (OURS, STORED):
        assert gpu_eight_bits.relative(calls[way](), expected) < FP8_ROUNDING
    assert (FP8_LIBRARY in calls) == (product is not STRIDED)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    out: Tensor,
    arrived: Tensor,
    *,
    relu: bool,
    stride: int,
    padding: int,
) -> None:
    """What the kernel does, its factors rounded to the type of the weight."""
    taps, image = weight[0].float().permute(0, 3, 1, 2), x.to(weight.dtype).float().permute(0, 3, 1, 2)
    total = functional.conv2d(image, taps, bias, stride, padding).permute(0, 2, 3, 1)
    total = total if residual is None else total + residual
    out.copy_(total.relu() if relu else total)


def test_sums_over_a_frame_take_the_session_for_what_a_way_lacks() -> None:
    slow = {SESSION: 4.0, OURS: 5.0, FP8_LIBRARY: 1.0, ROUNDING: 2.0}
    chosen = choices()
    assert {way: chosen[way](slow) for way in (SESSION, OURS, STORED, FP8_LIBRARY, "FP8 library + rounding")} == {
        SESSION: 4.0,
        OURS: 5.0,
        STORED: 4.0,
        FP8_LIBRARY: 1.0,
        "FP8 library + rounding": 3.0,
    }
    assert chosen["session or FP8"](slow) == 4.0
    assert chosen["session or FP8 library + rounding"](slow) == 3.0


def test_figures_are_shown_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up = [Figures(LINEAR, 3, {SESSION: 12.34, OURS: 10.0}, 0.02), Figures(STRIDED, 1, {SESSION: 5.0}, 0.03)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(gpu_eight_bits, "read_products", lambda file: {})
    monkeypatch.setattr(gpu_eight_bits, "measured", lambda counted: iter(made_up))
    monkeypatch.setattr(gpu_eight_bits, "environment", lambda device: {"device": device})
    gpu_eight_bits.main(products=tmp_path / "products.json", output=tmp_path / "figures.json")
    written = json.loads((tmp_path / "figures.json").read_text())
    assert [each["count"] for each in written["figures"]] == [3, 1]
    shown = capsys.readouterr().out
    assert "linear, 5 x 64 -> 48" in shown
    assert "42" in shown  # µs of the session: 3 x 12.34 + 5


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a CUDA GPU"):
        gpu_eight_bits.main()
