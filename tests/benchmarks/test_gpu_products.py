"""The script that times the kernels, with torch on the CPU in their place, and times that are made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_products
from benchmarks.gpu_products import AttentionCase, Case, Convolution, Linear, measure
from toolkit.precision import Precision

SMALL: dict[str, Case] = {
    "linear": Linear(5, 64, 7),
    "convolution": Convolution(2, 32, 4, 6, 3),
    "attention": AttentionCase(1, 2, 9, 11),
}
MOST = {Precision.FP32: 2e-6, Precision.TF32: 2e-3, Precision.FP16: 2e-3, Precision.BF16: 2e-2}


@pytest.fixture(autouse=True)
def made_up_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_products, "microseconds", lambda call, sets: 12.34)


@pytest.mark.parametrize("name", SMALL)
def test_kernel_and_library_compute_the_same(name: str) -> None:
    """In each precision, to what its rounding costs."""
    found = {each.precision: each for each in measure(name, SMALL[name], "cpu")}
    assert found.keys() == set(Precision)
    for precision, each in found.items():
        assert 0 < each.error < MOST[precision]
        assert 0 < each.library_error < MOST[precision]


def test_figures_are_shown_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(gpu_products, "CASES", SMALL)
    monkeypatch.setattr(gpu_products, "measure", lambda name, case: measure(name, case, "cpu"))
    monkeypatch.setattr(gpu_products, "environment", lambda device: {"device": device})
    gpu_products.main(tmp_path / "products.json")
    written = json.loads((tmp_path / "products.json").read_text())
    assert len(written["figures"]) == len(SMALL) * len(Precision)
    assert written["figures"][0].keys() >= {"call", "precision", "library", "ours", "error"}
    shown = capsys.readouterr().out
    assert "Some GPU" in shown
    assert "12.3" in shown


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a CUDA GPU"):
        gpu_products.main()
