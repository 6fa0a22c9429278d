"""TensorRT for RTX parses every op as its plugin and builds engines with it, for GPUs that are not here.

The engines are built, not executed: this needs no GPU.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tensorrt.cases import CAPABILITIES, CASES, DTYPES, OPEN, OPS
from toolkit.engines.tensorrt.rtx import BINDINGS, LIBRARIES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(package) is None for package in (BINDINGS, LIBRARIES)),
        reason="TensorRT for RTX is not installed; install it with: pip install 'uniad-toolkit[tensorrt-rtx]'",
    ),
]

BUILDS = list(itertools.product(CASES, DTYPES, ("static", "dynamic")))
TYPES = {"float32": "FLOAT", "float16": "HALF", "int32": "INT32"}
BUILD_CALLS = {
    "create_plugin",
    "get_capability_interface",
    "clone",
    "get_output_data_types",
    "get_output_shapes",
    "supports_format_combination",
    "configure_plugin",
    "get_valid_tactics",
    "get_workspace_size",
    "get_fields_to_serialize",
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `tests.tensorrt.observe` saw, in a process without a GPU."""
    report = tmp_path_factory.mktemp("tensorrt") / "seen.json"
    root = Path(__file__).parents[2]
    process = subprocess.run(
        [sys.executable, "-m", "tests.tensorrt.observe", str(report)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    observed: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return observed


def test_every_op_has_a_case() -> None:
    assert {op.name for op in OPS} == {case.op for case in CASES.values()}


@pytest.mark.parametrize(("case", "dtype", "sizes"), BUILDS)
def test_op_becomes_its_plugin(case: str, dtype: str, sizes: str, seen: dict[str, Any]) -> None:
    """One plugin layer, whose outputs have their types and the op's shapes, open sizes as -1."""
    build = seen["builds"][f"{case} {dtype} {sizes}"]
    [op] = [op for op in OPS if op.name == CASES[case].op]
    left_out = len(op.inputs) - len(CASES[case].inputs)
    assert build["layers"] == [*["LayerType.CONSTANT"] * left_out, "LayerType.PLUGIN_V3"]
    open_size = -1 if sizes == "dynamic" else 5
    shapes = [[open_size if extent == OPEN else extent for extent in shape] for shape in CASES[case].outputs]
    types = [TYPES[port.dtype or dtype] for port in op.signature.outputs]
    assert build["outputs"] == [[kind, *shape] for kind, shape in zip(types, shapes, strict=True)]


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(("case", "dtype", "sizes"), BUILDS)
def test_engine_is_built_with_the_plugin(
    case: str, dtype: str, sizes: str, capability: str, seen: dict[str, Any]
) -> None:
    """TensorRT asks the plugin all that a build asks, and the engine holds the plugin's name and attributes."""
    build = seen["builds"][f"{case} {dtype} {sizes}"][capability]
    assert set(build["called"]) == BUILD_CALLS
    assert build["named"] == [CASES[case].op, *CASES[case].attributes]
    assert build["stored"] == list(CASES[case].attributes)


@pytest.mark.parametrize("case", CASES)
def test_runtime_restores_the_attributes(case: str, seen: dict[str, Any]) -> None:
    """A plugin made in the runtime phase from the fields of another one equals it."""
    assert seen["fields"][case]["restored"] == CASES[case].attributes
    assert seen["fields"][case]["identity"] == [CASES[case].op, "1", "uniad"]


def test_fields_have_the_parsers_types(seen: dict[str, Any]) -> None:
    fields = {case: entry["fields"] for case, entry in seen["fields"].items()}
    assert fields["MultiScaleDeformableAttention"] == [["spatial_shapes", "INT32", [3, 4, 1, 2]]]
    assert fields["UnevenDeformableAttention"] == [
        ["spatial_shapes", "INT32", [3, 4, 1, 2]],
        ["level_points", "INT32", [3, 6]],
    ]
    assert fields["Rotate"] == [["interpolation", "CHAR", list(b"bilinear")]]
    assert fields["Inverse"] == []
    assert fields["Blend"] == [
        ["weights", "FLOAT32", [0.25, 0.75]],
        ["scale", "FLOAT32", [2.0]],
        ["negate", "INT32", [1]],
    ]
    assert fields["Strided"] == [["padding", "INT32", [1]], ["stride", "INT32", [2]], ["scale", "FLOAT32", [0.25]]]


def test_unknown_compute_capability(seen: dict[str, Any]) -> None:
    message = "TensorRT cannot build for compute capability '9.0'; use one of 7.5, 8.0, 8.6, 8.9, 12.0, 12.1"
    assert seen["refusals"]["capability"] == message


def test_operator_that_tensorrt_lacks(seen: dict[str, Any]) -> None:
    refusal = seen["refusals"]["operator"]
    assert refusal.startswith("TensorRT for RTX lacks 1 of the nodes of ")
    assert "no submodule: NonZero (first 'the_node')" in refusal
