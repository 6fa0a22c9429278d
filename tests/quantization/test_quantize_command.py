"""`uniad-toolkit quantize`: a bundle becomes one that computes with 8 bits and still drives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from tests.quantization.camera_network import make_frames
from toolkit.bundle import Bundle
from toolkit.cli.quantize import quantize_command
from toolkit.cli.sessions import used_precision
from toolkit.errors import CheckFailed, InputError
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.quantization.methods import Method
from toolkit.quantization.record import QuantizationRecord
from toolkit.quantization.scheme import QuantizationMode

Quantize = Callable[..., Bundle]


@pytest.fixture
def quantize(camera_bundle: Bundle, camera: PluginManager, camera_frames: Path, tmp_path: Path) -> Quantize:
    """Runs the command over the converted bundle and reads what it wrote."""
    defaults: dict[str, Any] = {
        "bundle": camera_bundle.path,
        "calibration": str(camera_frames),
        "output": tmp_path / "quantized",
        "threads": 1,
    }

    def run(**options: Any) -> Bundle:
        context: Any = SimpleNamespace(obj=camera)
        quantize_command(context, **defaults | options)
        return Bundle.read(tmp_path / "quantized")

    return run


def record_of(bundle: Bundle) -> QuantizationRecord:
    record = QuantizationRecord.read(bundle)
    assert record is not None
    return record


def test_what_hurts_is_kept_and_the_rest_is_quantized(
    quantize: Quantize, camera_bundle: Bundle, camera: PluginManager, capsys: pytest.CaptureFixture[str]
) -> None:
    """The driver's loud channel makes its range useless; the eyes' convolutions lose nothing that matters."""
    bundle = quantize()
    record = record_of(bundle)
    assert all(node.startswith("eyes/") for node in record.layers)
    assert len(record.layers) == 2
    reasons = {node: reason for node, reason in record.kept.items() if node.startswith("driver/")}
    assert any("driver alone: plan: " in reason for reason in reasons.values())
    assert all(finding.holds for finding in record.gates)
    assert {effect.unit for effect in record.effects} == {"eyes", "driver", "convolution layers", "linear layers"}
    assert record.original == camera_bundle.identity
    operators = [node.op_type for node in onnx.load(bundle.onnx).graph.node]
    assert operators.count("QuantizeLinear") >= 2
    assert all(bundle.is_intact(file) for file in bundle.sha256)
    assert (bundle.path / "quantization.png").read_bytes().startswith(b"\x89PNG")
    assert bundle.precision == "int8"
    assert used_precision(bundle, "onnxruntime", Precision.FP32, camera) == "int8"
    assert used_precision(bundle, "torch", Precision.FP32, camera) == "fp32"
    printed = capsys.readouterr().out
    assert "linear layers of driver" in printed
    assert "of the layers: " in printed


def test_layers_are_kept_by_name(quantize: Quantize) -> None:
    record = record_of(quantize(keep=["driver"]))
    assert [step.kept for step in record.steps] == [""]
    assert "kept by 'driver'" in record.kept.values()


def test_fp8_runs_as_well(quantize: Quantize) -> None:
    bundle = quantize(mode=QuantizationMode.FP8, method=Method.MAX, keep=["driver"])
    assert bundle.precision == "fp8"


def test_a_calibration_is_reused(quantize: Quantize, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "cache.json"
    first = record_of(quantize(cache=cache, keep=["driver"]))
    capsys.readouterr()
    again = record_of(quantize(cache=cache, keep=["driver"], force=True))
    assert "find the limits" not in capsys.readouterr().out
    assert again == first
    tensors = json.loads(cache.read_text())["tensors"]
    cache.write_text(json.dumps({"format": 1, "tensors": tensors}))
    with pytest.raises(InputError, match="field 'source' is missing"):
        quantize(cache=cache, force=True)


def test_a_quantized_bundle_is_refused(quantize: Quantize, tmp_path: Path) -> None:
    bundle = quantize(keep=["driver"])
    with pytest.raises(InputError, match="is quantized already"):
        quantize(bundle=bundle.path, output=tmp_path / "twice")


def test_too_few_frames_are_refused(quantize: Quantize, tmp_path: Path) -> None:
    few = make_frames(tmp_path / "few", scenes=(3,))
    with pytest.raises(InputError, match="holds 3 frames"):
        quantize(calibration=str(few))


def test_a_bundle_of_which_nothing_is_left_is_refused(quantize: Quantize) -> None:
    with pytest.raises(InputError, match=r"nothing of bundle .* can be quantized: .*kept by"):
        quantize(keep=["eyes", "driver"])


def test_entropy_is_int8s(quantize: Quantize) -> None:
    with pytest.raises(InputError, match="--method entropy counts the levels of int8"):
        quantize(mode=QuantizationMode.FP8, method=Method.ENTROPY)


def test_nothing_is_written_when_time_runs_out(quantize: Quantize, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="no choice of layers was found in time"):
        quantize(budget=0.0)
    assert not (tmp_path / "quantized").exists()
