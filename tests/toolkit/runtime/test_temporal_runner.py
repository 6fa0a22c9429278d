"""Frames through a session: what goes in, what is fed back, and what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from toolkit.bundle import Bundle
from toolkit.errors import InputError
from toolkit.runtime.temporal_runner import TemporalRunner

Frames = list[dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class DeviceTensor:
    """A tensor that is no numpy array."""

    array: np.ndarray


class FakeSession:
    """Drives 1 m a frame and remembers what went in and came out."""

    name = "fake"

    def __init__(self) -> None:
        self.fed: list[Mapping[str, DeviceTensor]] = []
        self.given: list[Mapping[str, DeviceTensor]] = []
        self.downloaded: list[DeviceTensor] = []

    def upload(self, array: np.ndarray) -> DeviceTensor:
        return DeviceTensor(array)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        outputs = {
            "moved": DeviceTensor(np.array([0, 1, 0], np.float32)),
            "driven": DeviceTensor(inputs["prev_driven"].array + 1),
            "plan": DeviceTensor(np.zeros((2, 2), np.float32)),
        }
        self.fed.append(inputs)
        self.given.append(outputs)
        return outputs

    def download(self, tensor: Any) -> np.ndarray:
        self.downloaded.append(tensor)
        array: np.ndarray = tensor.array
        return array

    def finite(self, tensors: Iterable[Any]) -> bool:
        return all(np.isfinite(tensor.array).all() for tensor in tensors)


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def runner(bundle: Bundle, session: FakeSession) -> TemporalRunner:
    return TemporalRunner(bundle, session)


def test_first_frame_starts_a_scene_from_zeros(runner: TemporalRunner, session: FakeSession, drive: Frames) -> None:
    """Whatever the frame itself says."""
    frame = drive[0] | {"use_previous": np.array([1], np.int32)}
    runner.step(frame)
    fed = session.fed[0]
    assert not fed["use_previous"].array.any()
    assert not fed["prev_driven"].array.any()
    assert frame["use_previous"] == [1]


def test_state_is_fed_back_without_leaving_the_device(
    runner: TemporalRunner, session: FakeSession, drive: Frames
) -> None:
    """The very tensors: an output of the frame before, and a frame input of the frame before."""
    for frame in drive:
        runner.step(frame)
    for number in range(1, len(drive)):
        assert session.fed[number]["prev_driven"] is session.given[number - 1]["driven"]
        assert session.fed[number]["prev_l2g_translation"] is session.fed[number - 1]["l2g_translation"]
    assert not {id(t) for t in session.downloaded} & {id(given["driven"]) for given in session.given}


def test_later_scene_change_is_left_to_the_network(runner: TemporalRunner, session: FakeSession, drive: Frames) -> None:
    for frame in drive:
        runner.step(frame)
    assert [int(fed["use_previous"].array[0]) for fed in session.fed] == [0, 1, 0, 1]
    assert [float(fed["prev_driven"].array[0]) for fed in session.fed] == [0, 1, 2, 3]


def test_results_that_are_no_state_come_out_by_default(runner: TemporalRunner, drive: Frames) -> None:
    assert list(runner.step(drive[0])) == ["plan"]


def test_any_output_comes_out_on_demand(runner: TemporalRunner, drive: Frames) -> None:
    outputs = runner.step(drive[0], ["driven", "moved"])
    assert list(outputs) == ["driven", "moved"]
    assert outputs["driven"] == [1]


def test_a_result_on_request_comes_out_by_name_only(bundle: Bundle, session: FakeSession, drive: Frames) -> None:
    driven, plan = bundle.results
    runner = TemporalRunner(replace(bundle, results=(driven, replace(plan, on_request=True))), session)
    assert not runner.step(drive[0])
    assert list(runner.step(drive[1], ["plan"])) == ["plan"]


def test_sequence_continues_from_a_given_state(runner: TemporalRunner, session: FakeSession, drive: Frames) -> None:
    runner.start({"prev_l2g_translation": np.zeros(3, np.float32), "prev_driven": np.array([41], np.float32)})
    assert runner.step(drive[1], ["driven"])["driven"] == [42]
    assert session.fed[0]["use_previous"].array == [1]


def test_only_the_bundles_inputs_are_fed(runner: TemporalRunner, session: FakeSession, drive: Frames) -> None:
    runner.step(drive[0] | {"image": np.zeros((6, 3, 1, 1), np.float32)})
    assert "image" not in session.fed[0]


def test_missing_input_is_explained(runner: TemporalRunner, drive: Frames) -> None:
    del drive[0]["command"]
    with pytest.raises(InputError, match=r"input 'command' is missing; it is int32\[1\]: driving command: 0 right"):
        runner.step(drive[0])


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros(2, np.int32), r"int32\[2\]"),
        (np.zeros((), np.int32), r"int32\[\]"),
        (np.zeros(1, np.int64), r"int64\[1\]"),
    ],
)
def test_misshaped_input_is_explained(array: np.ndarray, found: str, runner: TemporalRunner, drive: Frames) -> None:
    with pytest.raises(InputError, match=rf"input 'command' is {found}; it must be int32\[1\]"):
        runner.step(drive[0] | {"command": array})


def test_incomplete_state_is_explained(runner: TemporalRunner) -> None:
    with pytest.raises(InputError, match="input 'prev_driven' is missing"):
        runner.start({"prev_l2g_translation": np.zeros(3, np.float32)})


def test_network_without_state(bundle: Bundle, session: FakeSession, drive: Frames) -> None:
    """Nothing is fed back, and nobody asks whether the scene goes on."""
    read = tuple(spec for spec in bundle.frame_inputs if spec.name == "command")
    stateless = replace(bundle, frame_inputs=read, state_inputs=(), states=())

    class Stateless(FakeSession):
        def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
            assert list(inputs) == ["command"]
            return {"driven": inputs["command"], "plan": inputs["command"]}

    assert list(TemporalRunner(stateless, Stateless()).step(drive[0])) == ["driven", "plan"]
