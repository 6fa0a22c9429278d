"""The whole network as TensorRT engines, built by TensorRT for RTX for GPUs that are not here; nothing is executed.

Two builds of about half a minute each on two cores are what it takes to know that the network can be built.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import onnx
import pytest

from toolkit.bundle import Bundle
from toolkit.engines.tensorrt.library import Target
from toolkit.engines.tensorrt.process import run_build
from toolkit.engines.tensorrt.request import BuildRequest
from toolkit.engines.tensorrt.rtx import BINDINGS, LIBRARIES
from toolkit.engines.tensorrt.settings import DEFAULT_CAPABILITIES, BuildSettings
from toolkit.engines.tensorrt.sidecar import EngineTensor, Sidecar, log_path
from toolkit.ops.bodies import attach_bodies, custom_nodes, detach_bodies
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(package) is None for package in (BINDINGS, LIBRARIES)),
        reason="TensorRT for RTX is not installed; install it with: pip install 'uniad-toolkit[tensorrt-rtx]'",
    ),
]

LARGEST = {Precision.FP32: 400, Precision.FP16: 260}
"""MiB that an engine may take."""

Build = Callable[[Precision], tuple[Path, Sidecar]]


@pytest.fixture(scope="module")
def build(bundle_a: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The engine of sequence A's bundle in a precision, for three generations of GPUs at once."""

    @cache
    def build_once(precision: Precision) -> tuple[Path, Sidecar]:
        engine = tmp_path_factory.mktemp("engines") / f"{precision.value}.engine"
        settings = BuildSettings(Target.TENSORRT_RTX, precision, capabilities=DEFAULT_CAPABILITIES)
        return engine, run_build(BuildRequest(bundle_a.onnx, engine, settings), lambda phases: None)

    return build_once


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_whole_network_is_built(precision: Precision, build: Build, bundle_a: Bundle) -> None:
    """Every custom node is a plugin, the tensors are the bundle's, and TensorRT has nothing to warn of."""
    engine, sidecar = build(precision)
    sidecar.require_engine(engine)
    nodes = list(custom_nodes(onnx.load(bundle_a.onnx, load_external_data=False).graph.node))
    assert sidecar.layers["PLUGIN_V3"] == len(nodes) == sum(plugin.nodes for plugin in sidecar.plugins)
    assert {plugin.op for plugin in sidecar.plugins} == set(bundle_a.custom_ops)
    dimensions = bundle_a.config.dimensions()
    assert set(sidecar.tensors) == {
        EngineTensor(spec.name, mode, spec.dtype, spec.resolve(dimensions))
        for mode, specs in (
            ("input", (*bundle_a.frame_inputs, *bundle_a.state_inputs)),
            ("output", bundle_a.results),
        )
        for spec in specs
    }
    assert sidecar.onnx == bundle_a.digests("functional")
    assert sidecar.bytes < LARGEST[precision] * 2**20
    severities = {line.partition("]")[0] for line in log_path(engine).read_text().splitlines()}
    assert severities == {"[INFO"}


def test_functional_form_has_the_same_tensors(build: Build, bundle_a: Bundle, tmp_path: Path) -> None:
    """TensorRT reads it too, without plugins; it is not built."""
    report = tmp_path / "network.json"
    command = [sys.executable, "-m", "tests.tensorrt.parse", str(bundle_a.onnx), str(report)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True)
    network = json.loads(report.read_text(encoding="utf-8"))
    assert "PLUGIN_V3" not in network["layers"]
    tensors = [EngineTensor(**tensor | {"shape": tuple(tensor["shape"])}) for tensor in network["tensors"]]
    assert tuple(tensors) == build(Precision.FP32)[1].tensors


def test_forms_are_one_model(bundle_a: Bundle, plugins: PluginManager) -> None:
    """The plugin form with its functions put back is the functional form."""
    functional = onnx.load(bundle_a.onnx, load_external_data=False)
    again = onnx.load(bundle_a.onnx, load_external_data=False)
    detach_bodies(again)
    assert not again.functions
    attach_bodies(again, plugins.custom_ops())
    assert again.SerializeToString(deterministic=True) == functional.SerializeToString(deterministic=True)
