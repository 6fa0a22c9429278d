"""The whole network in FP16 on golden sequence A, state fed back: same sense, small differences.

Measured, with bounds in `toolkit.verification.sense`: BEV 5e-4, 8e-4 with roundings; matched objects move 0.09 m and
points of the plan 0.03 m; 1.7 % of the cells differ in the frame where an object is not reported.
Half a minute on two quiet cores: three networks, six frames each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from toolkit.bundle import Bundle
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.graph.graph_pass import GraphPass, Outcome
from toolkit.graph.model_file import read_model, write_model
from toolkit.graph.pipeline import rewrite
from toolkit.graph.precision.policy import FP16
from toolkit.graph.precision.precision_pass import precision_pass
from toolkit.graph.precision.simulation import simulate_rounding
from toolkit.plugin.manager import PluginManager
from toolkit.reference_interface.tensors import frame_inputs, has_no_effect
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.verification.comparison import compare
from toolkit.verification.decisions import decide
from toolkit.verification.gates import check_gates
from toolkit.verification.policy import FP32 as FP32_TOLERANCES
from toolkit.verification.sense import sense_failures

pytestmark = pytest.mark.slow

Outputs = list[dict[str, np.ndarray]]


def simulation(graph: object) -> Outcome:
    simulate_rounding(graph, FP16.dtype)
    return Outcome()


ROUNDED = GraphPass("rounded", "Rounds between nodes, which ONNX Runtime's CPU provider leaves out.", simulation)


def outputs_of(bundle: Bundle, frames: list[dict[str, np.ndarray]]) -> Outputs:
    """Every result of every frame."""
    runner = TemporalRunner(bundle, OnnxRuntimeSession(bundle), guarded=False)
    names = [spec.name for spec in bundle.results]
    official = [{k: v for k, v in frame.items() if not has_no_effect(k)} for frame in frames]
    return [runner.step(frame_inputs(frame, bundle, ""), names) for frame in official]


@pytest.fixture(scope="module")
def expected(bundle_a: Bundle, frame_inputs_a: list[dict[str, np.ndarray]]) -> Outputs:
    return outputs_of(bundle_a, frame_inputs_a)


@pytest.fixture(scope="module")
def reduced(bundle_a: Bundle, plugins: PluginManager) -> ModelProto:
    policy = FP16.with_exceptions(plugins.submodules())
    return rewrite(read_model(bundle_a.onnx), [precision_pass(policy)], plugins.custom_ops(), check=False).model


def test_interface_is_unchanged(bundle_a: Bundle, reduced: ModelProto) -> None:
    """Inputs, outputs and with them the recurrent state keep their names, types and shapes."""
    before = read_model(bundle_a.onnx).graph
    assert list(reduced.graph.input) == list(before.input)
    assert list(reduced.graph.output) == list(before.output)


def test_casts_are_few(reduced: ModelProto) -> None:
    """Fewer than one for every four nodes, and none that follows another."""
    casts = {node.output[0]: node.input[0] for node in reduced.graph.node if node.op_type == "Cast"}
    assert len(casts) < len(reduced.graph.node) / 4
    added = {o: i for o, i in casts.items() if "float16" in o or "float16" in i}
    assert not added.keys() & set(added.values())


@pytest.mark.parametrize("rounded", [False, True])
def test_sequence_makes_the_same_sense(
    rounded: bool,
    bundle_a: Bundle,
    reduced: ModelProto,
    expected: Outputs,
    frame_inputs_a: list[dict[str, np.ndarray]],
    plugins: PluginManager,
    tmp_path: Path,
) -> None:
    """As ONNX Runtime runs it, and with a rounding after every node, as a GPU does."""
    model = rewrite(reduced, [ROUNDED] if rounded else [], plugins.custom_ops(), check=False).model
    write_model(model, tmp_path / "fp16.onnx")
    bundle = dataclasses.replace(bundle_a, path=tmp_path, files={"functional": "fp16.onnx"})
    faults: list[str] = []
    for number, (wanted, actual) in enumerate(zip(expected, outputs_of(bundle, frame_inputs_a), strict=True)):
        faults += [f"frame {number}: {fault}" for fault in differences(bundle_a, number, wanted, actual)]
    assert faults == []


def differences(
    bundle: Bundle, number: int, wanted: Mapping[str, np.ndarray], actual: Mapping[str, np.ndarray]
) -> list[str]:
    """What of one frame differs by more than it may."""
    comparisons = compare(bundle, FP32_TOLERANCES, number, wanted, actual)
    decisions = decide(number, bundle.outputs, wanted, actual)
    failures = check_gates(decisions, comparisons, (wanted, actual), ("fp32", "fp16"))
    assert decisions.tracks is not None
    assert decisions.plan is not None
    assert decisions.occupancy is not None
    return [f"{f.gate}: {f.reason}" for f in (*failures, *sense_failures(decisions, comparisons))]
