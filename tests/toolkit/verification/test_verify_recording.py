"""A recorded reference: where a session parts from it, and whether that began in the state."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import pytest
from torch import Tensor

from toolkit.bundle import Bundle
from toolkit.engines.session import Session
from toolkit.engines.torch import TorchSession
from toolkit.network import Network
from toolkit.verification.bisection import Origin
from toolkit.verification.comparison import shown_entries
from toolkit.verification.observation import Observation, Observer
from toolkit.verification.recording import RecordedFrame
from toolkit.verification.report import Report
from toolkit.verification.verify import verify_recording
from toolkit.wiring import NetworkGraph


class DriftingSession(TorchSession):
    """Its distance is too large by a little in each frame, which adds up."""

    name = "drifting"

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = super().run(inputs)
        return outputs | {"driven": outputs["driven"] * (1 + 4e-4)}


@pytest.fixture
def recorded(bundle: Bundle, network: Network) -> list[RecordedFrame]:
    """What the eager network does in eight frames of one scene, each 5 m from the one before, without its wires."""
    observer = Observer(bundle, TorchSession(network))
    frames = []
    for number in range(8):
        inputs = {
            "l2g_rotation": np.eye(3, dtype=np.float32),
            "l2g_translation": np.array([3 * number, 4 * number, 0], np.float32),
            "command": np.array([2], np.int32),
            "use_previous": np.array([number > 0], np.int32),
        }
        seen = observer.step(inputs)
        shown = {name: array for name, array in seen.outputs.items() if name != "moved"}
        frames.append(RecordedFrame(inputs, Observation(seen.inputs, shown), frozenset(inputs), {}))
    return frames


@pytest.fixture
def altered(graph: NetworkGraph) -> Network:
    """The network with another weight."""
    network = Network(graph)
    weights = network.weights()
    network.load_weights({**weights, "odometer.weight": weights["odometer.weight"] * 1.1})
    return network


def compared(bundle: Bundle, frames: Collection[RecordedFrame], network: Network, candidate: Session) -> Report:
    """The candidate's report, where `network` is the bundle's."""
    [report], inputs = verify_recording(bundle, "dump", frames, [candidate], lambda: TorchSession(network))
    assert inputs == []
    return report


def without_state(frame: RecordedFrame) -> RecordedFrame:
    return replace(frame, seen=Observation(frame.inputs, frame.seen.outputs))


def test_equal_network_agrees(bundle: Bundle, network: Network, recorded: list[RecordedFrame]) -> None:
    """Only what was recorded is compared."""
    report = compared(bundle, recorded, network, TorchSession(network))
    assert report.passed
    assert [c.tensor for c in report.comparisons] == ["driven", "plan"] * 8


def test_network_of_other_weights(bundle: Bundle, altered: Network, recorded: list[RecordedFrame]) -> None:
    """Every session of it differs; the submodule that gives something else on recorded tensors is named."""
    report = compared(bundle, recorded, altered, TorchSession(altered))
    assert str(report.diagnosis) == (
        "made in frame 1 by submodule 'odometry': on identical inputs 'driven' is off by 0.0909, tolerance 0.001"
    )


def test_session_that_computes_otherwise(bundle: Bundle, network: Network, recorded: list[RecordedFrame]) -> None:
    """The network itself agrees with the recording, so the session is searched."""

    class Wrong(TorchSession):
        name = "wrong"

        def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            outputs = super().run(inputs)
            return outputs | {"plan": outputs["plan"] + 1}

    report = compared(bundle, recorded, network, Wrong(network))
    assert report.diagnosis is not None
    assert (report.diagnosis.origin, report.diagnosis.suspects) == (Origin.SUBMODULE, ("planner",))


def test_divergence_that_began_in_the_state(bundle: Bundle, network: Network, recorded: list[RecordedFrame]) -> None:
    report = compared(bundle, recorded, network, DriftingSession(network))
    assert report.diagnosis is not None
    assert (report.diagnosis.origin, report.diagnosis.states) == (Origin.INHERITED, ("prev_driven",))
    assert "inherited from earlier frames through 'prev_driven': on the reference's state" in str(report.diagnosis)


def test_state_that_was_not_recorded(bundle: Bundle, altered: Network, recorded: list[RecordedFrame]) -> None:
    """The divergence may have come in with it, which is said."""
    report = compared(bundle, [recorded[0], *map(without_state, recorded[1:])], altered, TorchSession(altered))
    assert str(report.diagnosis).endswith(
        "tolerance 0.001, unless it came in with the state, of which 2 tensors are not recorded"
    )


def test_masked_entries_are_not_compared() -> None:
    """A recording does not have them; whichever of both it is."""
    recorded = {"plan": np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False])}
    given = {"plan": np.array([1.0, 9.0, 4.0])}
    for one, other in (shown_entries(recorded, given, ["plan"]), shown_entries(given, recorded, ["plan"])):
        assert (one["plan"] != other["plan"]).tolist() == [False, False, True]
