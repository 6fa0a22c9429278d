"""The check that two sessions make the same decisions: when it fires, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from toolkit.bundle import Bundle, SubmoduleRecord
from toolkit.engines.torch import TorchSession
from toolkit.errors import CheckFailed
from toolkit.network import Network
from toolkit.parity import Divergence, ParityReport, check_parity, difference, settled_rows
from toolkit.specs import TensorSpec

Frames = list[dict[str, np.ndarray]]
Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


class ChangedSession(TorchSession):
    """The eager network with its outputs changed from some frame on."""

    name = "changed"

    def __init__(self, network: Network, change: Change, first: int = 0) -> None:
        super().__init__(network)
        self.change, self.countdown = change, first

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.countdown -= 1
        outputs = super().run(inputs)
        return outputs | self.change(outputs) if self.countdown < 0 else outputs


class ConstantSession:
    """A session that gives the same tensors in every frame."""

    name = "constant"

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self.tensors = dict(tensors)

    def upload(self, array: np.ndarray) -> Any:
        return array

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return self.tensors

    def download(self, tensor: Any) -> np.ndarray:
        array: np.ndarray = tensor
        return array


def compare(bundle: Bundle, network: Network, frames: Frames, change: Change, first: int = 0) -> ParityReport:
    return check_parity(bundle, TorchSession(network), ChangedSession(network, change, first), frames)


def test_equal_sessions_pass(bundle: Bundle, network: Network, drive: Frames) -> None:
    """All submodule outputs of all frames are compared, wires too, in execution order."""
    report = compare(bundle, network, drive, lambda outputs: {})
    report.require()
    assert [c.tensor for c in report.comparisons] == ["moved", "driven", "plan"] * 4
    assert [c.submodule for c in report.comparisons[:3]] == ["odometry", "odometry", "planner"]
    assert report.worst.error == 0


def test_rounding_passes(bundle: Bundle, network: Network, drive: Frames) -> None:
    report = compare(bundle, network, drive, lambda outputs: {"moved": outputs["moved"] * (1 + 1e-5)})
    report.require()
    assert report.worst.tensor == "moved"
    assert report.worst.error == pytest.approx(1e-5, rel=0.1)


def test_first_divergence_is_named(bundle: Bundle, network: Network, drive: Frames) -> None:
    """The plan of the first frame that differs, not a later one."""
    report = compare(bundle, network, drive, lambda outputs: {"plan": outputs["plan"] * 1.01}, first=1)
    expected = (
        "torch and changed diverge first at frame 1, submodule 'planner', tensor 'plan': error 0.01, tolerance 0.001"
    )
    with pytest.raises(CheckFailed, match=expected):
        report.require()


def test_divergence_lives_on_in_the_state(bundle: Bundle, network: Network, drive: Frames) -> None:
    """Each session has its own state fed back, until a new scene begins."""
    report = compare(bundle, network, drive, lambda outputs: {"driven": outputs["driven"] + 1})
    diverged = [c.frame for c in report.comparisons if c.tensor == "driven" and not c.passed]
    assert diverged == [0, 1, 2, 3]
    errors = [c.error for c in report.comparisons if c.tensor == "driven"]
    np.testing.assert_allclose(errors, [1, 2 / 5, 1, 2 / 5])


def test_non_finite_values_diverge(bundle: Bundle, network: Network, drive: Frames) -> None:
    report = compare(bundle, network, drive, lambda outputs: {"plan": outputs["plan"] / 0})
    with pytest.raises(CheckFailed, match="frame 0, submodule 'planner', tensor 'plan': error inf"):
        report.require()


@pytest.mark.parametrize(("scores", "passes"), [([0.90001, 0.9, 0.5], True), ([0.95, 0.9, 0.5], False)])
def test_rows_trade_places_only_when_their_scores_are_equal(scores: list[float], passes: bool, bundle: Bundle) -> None:
    """Equal within rounding, that is."""
    score = TensorSpec("score", (3,), "float32", "descending")
    row = TensorSpec("row", (3,), "int32", "what the score is about", ranked_by="score")
    ranked = replace(
        bundle,
        submodules=(SubmoduleRecord("ranking", "tests", None, ("score", "row")),),
        frame_inputs=(),
        state_inputs=(),
        states=(),
        results=(score, row),
        wires=(),
    )
    reference, candidate = (
        ConstantSession({"score": np.array(scores, np.float32), "row": np.array(rows, np.int32)})
        for rows in ([7, 8, 9], [8, 7, 9])
    )
    assert all(c.passed for c in check_parity(ranked, reference, candidate, [{}]).comparisons) == passes


def test_settled_rows_keep_their_distance() -> None:
    """A row is settled if the scores of both neighbours differ from its own by more than rounding."""
    scores = np.array([0.9, 0.7, 0.69999, 0.5, 0.3], np.float32)
    np.testing.assert_array_equal(settled_rows(scores, 5), [True, False, False, True, True])


def test_rows_behind_the_ranked_ones_are_settled() -> None:
    """As the ego's, behind the agents; and there may be fewer rows than scores."""
    scores = np.array([0.9, 0.89999, 0.5], np.float32)
    np.testing.assert_array_equal(settled_rows(scores, 4), [False, False, True, True])
    np.testing.assert_array_equal(settled_rows(scores, 2), [False, False])


def test_difference_of_floats_is_a_relative_norm() -> None:
    error, tolerance = difference(np.array([3.0, 4.0], np.float32), np.array([3.0, 4.05], np.float32))
    assert error == pytest.approx(0.01, rel=1e-4)
    assert tolerance == 1e-3
    assert difference(np.zeros(3, np.float32), np.zeros(3, np.float32))[0] == 0
    assert difference(np.zeros(2, np.float32), np.array([0.3, 0.4], np.float32))[0] == pytest.approx(0.5)


def test_difference_of_integers_is_a_share() -> None:
    """None may differ, except few cells of a grid: a mask whose scores lie near their threshold."""
    assert difference(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])) == (0.25, 0)
    mask = np.zeros((2, 30, 30), np.int32)
    flipped = mask.copy()
    flipped[0, 0, 0] = 1
    error, tolerance = difference(mask, flipped)
    assert 0 < error <= tolerance
    assert difference(np.zeros(0, np.int32), np.zeros(0, np.int32)) == (0, 0)


def test_equal_non_finite_values_are_no_difference() -> None:
    values = np.array([1, np.inf, np.nan], np.float32)
    assert difference(values, values)[0] == 0
    assert difference(values, np.array([1, np.inf, 0], np.float32))[0] == np.inf


def test_worst_is_relative_to_the_tolerance() -> None:
    """An integer that must not differ is worse than any float."""
    comparisons = (
        Divergence(0, "a", "float", error=0.5, tolerance=1e-3),
        Divergence(1, "b", "id", error=0.1, tolerance=0),
        Divergence(1, "b", "label", error=0, tolerance=0),
    )
    assert ParityReport(("x", "y"), 2, comparisons).worst.tensor == "id"


def test_summary_is_ready_for_json() -> None:
    report = ParityReport(("x", "y"), 1, (Divergence(0, "a", "float", error=1e-6, tolerance=1e-3),))
    assert report.summary() == {
        "sessions": ["x", "y"],
        "frames": 1,
        "worst": {"frame": 0, "submodule": "a", "tensor": "float", "error": 1e-6, "tolerance": 1e-3},
    }
