"""TensorRT for RTX computes in 8 bits what was quantized, as its builder's list of layers shows.

The engines are built, not executed: this needs no GPU.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.quantization.test_insert import FP8, INT8, RESIDUAL, quantized
from tests.quantization.test_reduced_rest import NORMALISED
from toolkit.engines.tensorrt.library import Target
from toolkit.engines.tensorrt.model import prepare_model
from toolkit.engines.tensorrt.rtx import BINDINGS, LIBRARIES
from toolkit.engines.tensorrt.settings import BuildSettings
from toolkit.errors import InputError
from toolkit.precision import Precision
from toolkit.quantization.scheme import QuantizationMode, Scheme

ROOT = Path(__file__).parents[2]
CAPABILITIES = {QuantizationMode.INT8: ("8.6", "8.9", "12.0"), QuantizationMode.FP8: ("8.9", "12.0")}
TYPES = {QuantizationMode.INT8: "Int8", QuantizationMode.FP8: "FP8"}
MODELS = {"convolutions": RESIDUAL, "products": NORMALISED}
PRECISIONS = (Precision.FP32, Precision.FP16)


def prepared(text: str, scheme: Scheme, precision: Precision, path: Path) -> tuple[str, ...]:
    """The names of the layers of a model that is quantized, and written as it goes to TensorRT."""
    result = quantized(text, scheme)
    onnx.save(result.model, path)
    settings = BuildSettings(Target.TENSORRT_RTX, precision, capabilities=CAPABILITIES[scheme.mode])
    onnx.save(prepare_model(path, (), (), settings).model, path)
    return result.nodes


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in (BINDINGS, LIBRARIES)),
    reason="TensorRT for RTX is not installed; install it with: pip install 'uniad-toolkit[tensorrt-rtx]'",
)
@pytest.mark.parametrize("scheme", [INT8, FP8], ids=lambda scheme: scheme.mode.value)
def test_quantized_layers_are_computed_in_8_bits(scheme: Scheme, tmp_path: Path) -> None:
    """Whatever the rest computes in, and for all GPUs that have the type at once."""
    wanted = {
        f"{name} {precision}": prepared(text, scheme, precision, tmp_path / f"{name} {precision}.onnx")
        for name, text in MODELS.items()
        for precision in PRECISIONS
    }
    models = [str(tmp_path / f"{name}.onnx") for name in wanted]
    arguments = [str(tmp_path / "layers.json"), ",".join(CAPABILITIES[scheme.mode]), *models]
    process = subprocess.run(
        [sys.executable, "-m", "tests.tensorrt.layers", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    found: dict[str, Any] = json.loads((tmp_path / "layers.json").read_text(encoding="utf-8"))
    for name, nodes in wanted.items():
        layers = [layer for layer in found[name] if layer["kind"] in ("correlation", "gemm")]
        assert [layer["inputs"][0] for layer in layers] == [TYPES[scheme.mode]] * len(nodes)
        assert all(node in layer["nodes"] for node, layer in zip(nodes, layers, strict=True))


def test_fp8_is_refused_for_a_gpu_that_lacks_it(tmp_path: Path) -> None:
    onnx.save(quantized(NORMALISED, FP8).model, tmp_path / "model.onnx")
    settings = BuildSettings(Target.TENSORRT_RTX, Precision.FP16, capabilities=("8.6", "8.9", "12.0"))
    with pytest.raises(InputError, match=r"capability 8\.6 do not have; build it with --compute-capability 8\.9,12\.0"):
        prepare_model(tmp_path / "model.onnx", (), (), settings)
