"""`uniad-toolkit quantize`: a bundle becomes one that computes with 8 bits and still drives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from tests.evaluation import judging_plugin
from tests.evaluation.evaluations import figure
from tests.quantization.camera_network import LENGTH, camera_plugins, make_frames
from toolkit.bundle import Bundle
from toolkit.cli.quantize import quantize_command
from toolkit.cli.sessions import used_precision
from toolkit.cli.verify import verify_command
from toolkit.data.ground_truth import GroundTruth
from toolkit.errors import CheckFailed, InputError
from toolkit.evaluation.metric import Loss, Measure, Measured, Metric, Verdict
from toolkit.hookspecs import hookimpl
from toolkit.inspection.bundle import inspect_bundle
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.quantization.methods import Method
from toolkit.quantization.record import QuantizationRecord
from toolkit.quantization.scheme import QuantizationMode
from toolkit.report.collect import collect_report
from toolkit.report.render import render_report
from toolkit.storage.files import sha256_file

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


@pytest.fixture(scope="module")
def made(
    camera_bundle: Bundle, camera: PluginManager, camera_frames: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A quantized bundle whose driver was kept by name."""
    output = tmp_path_factory.mktemp("made") / "quantized"
    context: Any = SimpleNamespace(obj=camera)
    quantize_command(context, camera_bundle.path, output, str(camera_frames), keep=["driver"], threads=1)
    return output


@pytest.fixture
def quantized(made: Path, tmp_path: Path) -> Bundle:
    """A copy of it, to be damaged."""
    return Bundle.read(shutil.copytree(made, tmp_path / "copy"))


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


def test_other_commands_know_the_bundle(
    quantized: Bundle, camera: PluginManager, camera_frames: Path, tmp_path: Path
) -> None:
    """`verify` holds it to the gates instead of digits, `inspect` and `report` say how it was quantized."""
    bundle = quantized
    context: Any = SimpleNamespace(obj=camera)
    report = tmp_path / "verify.json"
    verify_command(context, bundle.path, str(camera_frames), sessions="torch,onnxruntime", output=report)
    [verified] = json.loads(report.read_text())
    assert (verified["precision"], verified["failure"]) == ("int8", None)
    shown = inspect_bundle(bundle, camera.submodules()).provenance["quantization"]
    assert shown["layers"] == "2 of 5"  # type: ignore[index]
    page = render_report(collect_report(bundle, camera.submodules(), verification=report))
    assert "quantization, int8" in page
    assert "kept by &#39;driver&#39;" in page


def test_verify_holds_a_quantized_bundle_to_the_gates(
    quantized: Bundle, camera: PluginManager, camera_frames: Path
) -> None:
    """A plan that is more than a metre off is one, whatever the bundle says of itself."""
    bundle = quantized
    model = onnx.load(bundle.onnx)
    [bias] = [tensor for tensor in model.graph.initializer if tensor.name == "driver/route.bias"]
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(1 / LENGTH), bias.name))
    onnx.save(model, bundle.onnx)
    replace(bundle, sha256={file: sha256_file(bundle.path / file) for file in bundle.sha256}, sizes={}).write()
    context: Any = SimpleNamespace(obj=camera)
    with pytest.raises(CheckFailed, match=r"onnxruntime int8 fails the gate on plan at frame 9: 1\.4"):
        verify_command(context, bundle.path, str(camera_frames), sessions="torch,onnxruntime")


def test_layers_are_kept_by_name(quantized: Bundle) -> None:
    record = record_of(quantized)
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


def test_a_quantized_bundle_is_refused(quantize: Quantize, quantized: Bundle) -> None:
    with pytest.raises(InputError, match="is quantized already"):
        quantize(bundle=quantized.path)


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


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda record: record | {"steps": []}, r"\$.steps: is empty"),
        (lambda record: record | {"effects": [record["effects"][0] | {"findings": []}]}, "without findings"),
        (lambda record: record | {"layers": 3}, r"\$.layers: expected a list"),
        (lambda record: record | {"format": 9}, "format is not 1; quantize again"),
    ],
    ids=["no steps", "no findings", "no list", "another format"],
)
def test_a_damaged_record_is_refused(
    damage: Callable[[dict[str, Any]], dict[str, Any]], complaint: str, quantized: Bundle
) -> None:
    path = quantized.path / "quantization.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(InputError, match=complaint):
        QuantizationRecord.read(quantized)


def judging(bound: float) -> PluginManager:
    """The camera's plugins, and a metric of which quantization may change the mean end of the plans by a bound."""

    def open_truth(truth: GroundTruth) -> Measure:
        return lambda frame: float(frame.result.plan.points[-1, 1]) if frame.result.plan else np.nan

    def compute(measured: Measured, folder: Path) -> Verdict:
        mean = float(np.mean(measured.values))
        return Verdict([figure("least", mean), figure("most", mean, higher_is_better=True)])

    losses = (Loss("least", absolute=bound), Loss("most", absolute=bound))

    @hookimpl
    def uniad_metrics() -> tuple[Metric, ...]:
        return (Metric("ends", "", ("plan",), (), open_truth, compute, losses=losses),)

    plugin = ModuleType("judging")
    plugin.__dict__.update(uniad_metrics=uniad_metrics, uniad_frame_sources=judging_plugin.uniad_frame_sources)
    plugins = camera_plugins()
    plugins.register(plugin, "judging")
    return plugins


def test_ground_truth_is_a_gate(camera_bundle: Bundle, camera_frames: Path, tmp_path: Path) -> None:
    """Both bundles are run and judged; of the results nothing is left."""
    context: Any = SimpleNamespace(obj=judging(bound=0.5))
    output = tmp_path / "quantized"
    options: dict[str, Any] = {"keep": ["driver"], "threads": 1, "data": "hand:val"}
    quantize_command(context, camera_bundle.path, output, str(camera_frames), **options)
    driving = record_of(Bundle.read(output)).driving
    assert [(finding.subject, finding.bound) for finding in driving] == [("ends/least", 0.5), ("ends/most", 0.5)]
    assert [path.name for path in tmp_path.iterdir()] == ["quantized"]
    context.obj = judging(bound=0.0)
    with pytest.raises(CheckFailed, match="the quantized bundle drives worse than it may: ends/"):
        quantize_command(context, camera_bundle.path, tmp_path / "worse", str(camera_frames), **options)
    assert not (tmp_path / "worse").exists()
