"""Verification from end to end: what diverges is found, named, and traced to where it was made."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from toolkit.bundle import Bundle
from toolkit.engines.session import Session
from toolkit.engines.torch import TorchSession
from toolkit.errors import CheckFailed
from toolkit.network import Network
from toolkit.verification.bisection import Origin
from toolkit.verification.policy import policy_of
from toolkit.verification.report import Report
from toolkit.verification.table import print_report
from toolkit.verification.verify import verify
from toolkit.wiring import NetworkGraph

Tensors = Mapping[str, Tensor]
Change = Callable[[Tensors, Tensors], dict[str, Tensor]]
Frames = list[dict[str, np.ndarray]]
Check = Callable[[Session], Report]


class ChangedSession(TorchSession):
    """The eager network with some of its outputs changed, depending on its inputs."""

    name = "changed"

    def __init__(self, network: Network, change: Change) -> None:
        super().__init__(network)
        self.change = change

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = super().run(inputs)
        return outputs | self.change(inputs, outputs)


class SecretiveSession(TorchSession):
    """The eager network without its wires, like an engine that only has the outputs it was built with."""

    name = "secretive"

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in super().run(inputs).items() if name != "moved"}


@pytest.fixture
def check(bundle: Bundle, network: Network, drive: Frames) -> Check:
    """Compare a session with the eager network over the drive."""

    def compare_with_eager(candidate: Session) -> Report:
        reference = TorchSession(network)
        [report] = verify(bundle, reference, [candidate], drive, lambda: reference)
        return report

    return compare_with_eager


@pytest.fixture
def long_drive(drive: Frames) -> Frames:
    """Eight frames of one scene, each 5 m from the one before."""
    return [
        drive[0]
        | {
            "l2g_translation": np.array([3 * number, 4 * number, 0], np.float32),
            "use_previous": np.array([number > 0], np.int32),
        }
        for number in range(8)
    ]


@pytest.fixture
def altered(graph: NetworkGraph) -> Callable[..., Network]:
    """Makes the network with one weight changed."""

    def alter(key: str, change: Callable[[Tensor], Tensor]) -> Network:
        network = Network(graph)
        weights = network.weights()
        network.load_weights({**weights, key: change(weights[key])})
        return network

    return alter


def test_equal_sessions_agree(check: Check, network: Network) -> None:
    """All submodule outputs of all frames are compared, wires too, in execution order."""
    report = check(TorchSession(network))
    report.require()
    assert report.passed
    assert [c.tensor for c in report.comparisons] == ["moved", "driven", "plan"] * 4
    assert [c.submodule for c in report.comparisons[:3]] == ["odometry", "odometry", "planner"]
    assert report.worst.error == 0


def test_rounding_is_tolerated(check: Check, network: Network) -> None:
    report = check(ChangedSession(network, lambda _, outputs: {"moved": outputs["moved"] * (1 + 1e-5)}))
    report.require()
    assert report.worst.tensor == "moved"
    assert report.worst.error == pytest.approx(1e-5, rel=0.1)


def test_first_divergence_is_named(check: Check, network: Network) -> None:
    """The first frame, and in it the first tensor in execution order."""
    report = check(
        ChangedSession(network, lambda inputs, outputs: {"plan": outputs["plan"] * (1 + 0.01 * inputs["use_previous"])})
    )
    message = (
        "changed diverges from torch first at frame 1, submodule 'planner', tensor 'plan': largest error 0.08, "
        "tolerance 0.001"
    )
    with pytest.raises(CheckFailed, match=re.escape(message)):
        report.require()


def test_wrong_submodule_is_named(check: Check, altered: Callable[..., Network]) -> None:
    """Not the ones behind it, whose outputs differ just as much."""
    report = check(TorchSession(altered("odometer.weight", lambda weight: weight * 1.1)))
    assert report.diagnosis is not None
    assert report.diagnosis.origin is Origin.SUBMODULE
    assert report.diagnosis.suspects == ("odometry",)
    assert {c.tensor for c in report.comparisons if not c.passed} == {"moved", "driven", "plan"}
    assert str(report.diagnosis) == (
        "made in frame 1 by submodule 'odometry': on identical inputs 'moved' is off by 0.1, tolerance 0.001"
    )


def test_wrong_submodule_behind_a_right_one(check: Check, altered: Callable[..., Network]) -> None:
    report = check(TorchSession(altered("planner.weight", lambda weight: weight + 0.5)))
    assert report.diagnosis is not None
    assert (report.diagnosis.frame, report.diagnosis.suspects, report.diagnosis.tensor) == (0, ("planner",), "plan")


def test_hidden_wires_widen_the_suspicion(check: Check, altered: Callable[..., Network]) -> None:
    """Without the wire between them, the odometry is as suspect as the planner."""
    report = check(SecretiveSession(altered("planner.weight", lambda weight: weight + 0.5)))
    assert report.diagnosis is not None
    assert report.diagnosis.suspects == ("planner", "odometry")
    assert "'planner' (or 'odometry', whose outputs cannot be seen)" in str(report.diagnosis)
    assert "moved" not in {c.tensor for c in report.comparisons}


def test_error_in_reading_the_state(bundle: Bundle, network: Network, long_drive: Frames) -> None:
    """A frame without history looks right; on the reference's own state the submodule that reads it wrongly errs."""
    forgetful = ChangedSession(network, lambda inputs, outputs: {"driven": outputs["driven"] - inputs["prev_driven"]})
    reference = TorchSession(network)
    [report] = verify(bundle, reference, [forgetful], long_drive, lambda: reference)
    assert str(report.diagnosis) == (
        "made in frame 2 by submodule 'odometry': on identical inputs 'driven' is off by 0.5, tolerance 0.001"
    )


def test_error_that_builds_up_in_the_state(bundle: Bundle, network: Network, long_drive: Frames) -> None:
    """Each frame keeps its tolerance on its own; after some frames the sum does not, and the state is named."""
    drifting = ChangedSession(network, lambda _, outputs: {"driven": outputs["driven"] * (1 + 4e-4)})
    reference = TorchSession(network)
    [report] = verify(bundle, reference, [drifting], long_drive, lambda: reference)
    assert report.diagnosis is not None
    assert report.diagnosis.origin is Origin.INHERITED
    assert report.diagnosis.states == ("prev_driven",)
    assert "inherited from earlier frames through 'prev_driven'" in str(report.diagnosis)


def test_small_errors_that_add_up_within_a_frame(bundle: Bundle, network: Network, drive: Frames) -> None:
    """Two submodules, each inside its tolerance on its own inputs, and a plan outside."""

    def change(_: Tensors, outputs: Tensors) -> dict[str, Tensor]:
        return {"moved": outputs["moved"] * (1 + 9e-4), "plan": outputs["plan"] * (1 + 9e-4) ** 2}

    relative = replace(bundle, results=tuple(replace(spec, tolerance=None) for spec in bundle.results))
    reference = TorchSession(network)
    [report] = verify(relative, reference, [ChangedSession(network, change)], drive, lambda: reference)
    assert report.diagnosis is not None
    assert report.diagnosis.origin is Origin.ACCUMULATED
    assert "on identical inputs every submodule keeps its tolerance" in str(report.diagnosis)


def test_error_that_does_not_come_back(check: Check, network: Network) -> None:
    """A session that computes something else the second time."""
    errors = iter([0.0, 1.0])
    flaky = ChangedSession(network, lambda _, outputs: {"driven": outputs["driven"] + next(errors, 0.0)})
    report = check(flaky)
    assert report.diagnosis is not None
    assert report.diagnosis.origin is Origin.NOT_REPRODUCED


def test_non_finite_values_fail_twice(check: Check, network: Network) -> None:
    """As a divergence, and as a gate that names the session."""
    report = check(ChangedSession(network, lambda _, outputs: {"plan": outputs["plan"] / 0}))
    first = report.first_divergence
    assert first is not None
    assert (first.frame, first.tensor, first.error) == (0, "plan", np.inf)
    assert report.gate_failures[0].reason == "changed gives non-finite values in 'plan'"
    assert first.errors.non_finite == (0, 4)


def test_non_finite_values_in_both_fail_as_well(bundle: Bundle, altered: Callable[..., Network], drive: Frames) -> None:
    """There is no difference, yet neither is of any use."""
    broken = TorchSession(altered("planner.weight", lambda weight: weight * np.nan))
    [report] = verify(bundle, broken, [broken], drive, lambda: broken)
    assert report.first_divergence is None
    assert [failure.gate for failure in report.gate_failures[:2]] == ["finite values"] * 2
    with pytest.raises(CheckFailed, match="gate on finite values at frame 0: torch gives non-finite values in 'plan'"):
        report.require()


def test_every_candidate_has_its_report(
    bundle: Bundle, network: Network, altered: Callable[..., Network], drive: Frames
) -> None:
    """The eager network is opened for those that diverge only."""
    reference, opened = TorchSession(network), list[int]()

    def eager() -> TorchSession:
        opened.append(1)
        return reference

    wrong = TorchSession(altered("planner.weight", lambda weight: weight + 1))
    right, other = verify(bundle, reference, [TorchSession(network), wrong], drive, eager)
    assert (right.passed, other.passed) == (True, False)
    assert opened == [1]


def check_reduced(bundle: Bundle, network: Network, drive: Frames, error: float) -> Report:
    """A session in FP16 whose plan is off by `error` metres in one direction."""
    reference = TorchSession(network)
    candidate = ChangedSession(network, lambda _, outputs: {"plan": outputs["plan"] + torch.tensor([0.0, error])})
    [report] = verify(bundle, reference, [candidate], drive, lambda: reference, policies=[policy_of("fp16")])
    return report


def test_reduced_precision_may_exceed_tolerances(bundle: Bundle, network: Network, drive: Frames) -> None:
    """By which FP32 would have failed."""
    report = check_reduced(bundle, network, drive, 0.05)
    assert report.passed
    assert report.failure() is None
    assert (report.first_divergence, report.diagnosis) == (None, None)
    assert {c.tensor for c in report.comparisons if not c.passed} == {"plan"}
    console = Console(width=200, file=io.StringIO(), record=True)
    print_report(report, console)
    text = console.export_text()
    assert "fp16; bounds are those of fp32" in text
    assert "beyond" in text
    assert "FAIL" not in text


def test_reduced_precision_must_make_sense(bundle: Bundle, network: Network, drive: Frames) -> None:
    report = check_reduced(bundle, network, drive, 0.2)
    assert not report.passed
    with pytest.raises(CheckFailed, match=r"gate on plan at frame 0: a point moves by 0.2 m \(bound 0.1\)"):
        report.require()


def test_reduced_precision_must_be_finite(bundle: Bundle, network: Network, drive: Frames) -> None:
    assert check_reduced(bundle, network, drive, np.nan).gate_failures[0].gate == "finite values"


def test_sequence_may_start_from_a_state(bundle: Bundle, network: Network, drive: Frames) -> None:
    start = {"prev_l2g_translation": np.array([1, 2, 0], np.float32), "prev_driven": np.array([7], np.float32)}
    reference = TorchSession(network)
    candidate = ChangedSession(network, lambda inputs, outputs: {"driven": outputs["driven"] + inputs["prev_driven"]})
    [report] = verify(bundle, reference, [candidate], drive[1:2], lambda: reference, start=start)
    assert report.first_divergence is not None
    assert report.first_divergence.errors.largest == pytest.approx(7)


def test_report_as_json(check: Check, network: Network) -> None:
    """Numbers that JSON has no notation for become null."""
    report = check(ChangedSession(network, lambda _, outputs: {"plan": outputs["plan"] / 0}))
    values: dict[str, Any] = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["passed"] is False
    assert values["precision"] == "fp32"
    assert values["first_divergence"]["tensor"] == "plan"
    assert values["first_divergence"]["errors"]["largest"] is None
    assert values["diagnosis"]["origin"] == "submodule"
    assert len(values["comparisons"]) == 12
    assert values["decisions"][1]["plan"]["expected"] == pytest.approx(10)


def test_summary_for_the_bundle(check: Check, network: Network) -> None:
    assert check(TorchSession(network)).summary() == {
        "sessions": ["torch", "torch"],
        "precision": "fp32",
        "frames": 4,
        "worst": {
            "frame": 0,
            "submodule": "odometry",
            "tensor": "moved",
            "measure": "norm",
            "error": 0.0,
            "tolerance": 1e-3,
        },
    }
