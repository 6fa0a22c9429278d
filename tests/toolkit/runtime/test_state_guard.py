"""What the runner does when the state that a frame leaves behind is not fit for the next one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plugins.tracking.results import INTERPRETATION
from toolkit.bundle import Bundle
from toolkit.config.model import ModelConfig
from toolkit.data.frames import Command, Frame, Pose
from toolkit.engines.torch import TorchSession
from toolkit.errors import InputError
from toolkit.network import Network
from toolkit.reference_interface.replay import replay
from toolkit.reference_interface.tensors import FRAME
from toolkit.runtime.repairs import NO_REPAIRS, Repairs
from toolkit.runtime.result_writer import write_result
from toolkit.runtime.results import frame_result, unknown_result
from toolkit.runtime.state_guard import NEXT_ID_LIMIT
from toolkit.runtime.temporal_runner import TemporalRunner

Arrays = dict[str, np.ndarray]
Change = Callable[[Arrays], None]
QUERIES, ROWS = 3, 8
ROW_TENSORS = ("track_query", "track_reference", "track_box", "track_memory", "track_save_period")


class ScriptedSession:
    """Gives three tracks in every frame, ids 7, 8 and 9, in rows whose values are their ids; `changes` by frame."""

    name = "scripted"

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.changes: dict[int, Change] = {}
        self.fed: list[Mapping[str, np.ndarray]] = []
        self.given: list[Arrays] = []

    def upload(self, array: np.ndarray) -> np.ndarray:
        return array

    def download(self, tensor: np.ndarray) -> np.ndarray:
        return tensor

    def finite(self, tensors: Iterable[np.ndarray]) -> bool:
        return all(np.isfinite(tensor).all() for tensor in tensors)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        dimensions = self.bundle.config.dimensions()
        outputs = {spec.name: spec.zeros(dimensions) for spec in self.bundle.results}
        for name in (*ROW_TENSORS, "track_id"):
            outputs[name][QUERIES : QUERIES + 3].T[:] = 7, 8, 9
        outputs["track_count"][:] = QUERIES + 3
        outputs["next_track_id"][:] = 10
        outputs["bev"][:] = 1
        if change := self.changes.get(len(self.fed)):
            change(outputs)
        self.fed.append(inputs)
        self.given.append(outputs)
        return outputs


@pytest.fixture
def roomy(official_bundle: Bundle) -> Bundle:
    """The toolkit's own network at toy size: 3 fresh rows, 5 for tracks."""
    tracking = replace(official_bundle.config.tracking, queries=QUERIES, track_capacity=ROWS)
    return replace(official_bundle, config=replace(official_bundle.config, tracking=tracking))


@pytest.fixture
def session(roomy: Bundle) -> ScriptedSession:
    return ScriptedSession(roomy)


@pytest.fixture
def frame(roomy: Bundle) -> Arrays:
    """Zeros that claim to continue a scene."""
    zeros = {spec.name: spec.zeros(roomy.config.dimensions()) for spec in roomy.frame_inputs}
    return zeros | {"use_previous": np.ones(1, np.int32)}


@pytest.fixture
def run(roomy: Bundle, session: ScriptedSession, frame: Arrays) -> Callable[[Change], list[Repairs]]:
    """Runs four frames, of which the second leaves the state that `change` makes, and returns all repairs."""

    def run(change: Change) -> list[Repairs]:
        session.changes[1] = change
        runner = TemporalRunner(roomy, session)
        repairs = []
        for _ in range(4):
            runner.step(frame)
            repairs.append(runner.repairs)
        return repairs

    return run


Run = Callable[[Change], list[Repairs]]


def put(name: str, row: int, value: float = np.nan) -> Change:
    """Spoils one value in a row of an output."""

    def change(outputs: Arrays) -> None:
        outputs[name].reshape(len(outputs[name]), -1)[row, -1] = value

    return change


def scenes(session: ScriptedSession) -> list[int]:
    """`use_previous` of every frame."""
    return [int(fed["use_previous"][0]) for fed in session.fed]


def test_sound_state_is_fed_back_as_it_is(run: Run, session: ScriptedSession) -> None:
    assert run(lambda _: None) == [NO_REPAIRS] * 4
    assert not NO_REPAIRS
    for given, fed in zip(session.given, session.fed[1:], strict=False):
        assert all(fed[f"prev_{name}"] is given[name] for name in ("bev", "next_track_id", *ROW_TENSORS))
    assert scenes(session) == [0, 1, 1, 1]


@pytest.mark.parametrize("name", ROW_TENSORS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_poisoned_track_is_forgotten(name: str, value: float, run: Run, session: ScriptedSession) -> None:
    """Whichever of its tensors is hit; the tracks behind it move up, and the scene goes on."""
    repairs = run(put(name, QUERIES + 1, value))
    assert repairs == [NO_REPAIRS, Repairs(poisoned_tracks=1), NO_REPAIRS, NO_REPAIRS]
    assert str(repairs[1]) == "tracks forgotten because not finite: 1"
    fed = session.fed[2]
    assert fed["prev_track_count"].tolist() == [QUERIES + 2]
    assert fed["prev_track_count"].dtype == np.int32
    for tensor in (*ROW_TENSORS, "track_id"):
        rows = fed[f"prev_{tensor}"][QUERIES:].reshape(ROWS - QUERIES, -1)
        assert (rows.T == [7, 9, 0, 0, 0]).all(), tensor
        assert fed[f"prev_{tensor}"].dtype == session.given[1][tensor].dtype
    assert fed["prev_next_track_id"] == [10]
    assert fed["prev_bev"] is session.given[1]["bev"]
    assert scenes(session) == [0, 1, 1, 1]


def test_all_tracks_may_be_poisoned(run: Run, session: ScriptedSession) -> None:
    def change(outputs: Arrays) -> None:
        outputs["track_query"][QUERIES : QUERIES + 3] = np.nan

    assert run(change)[1] == Repairs(poisoned_tracks=3)
    assert session.fed[2]["prev_track_count"] == [QUERIES]
    assert not session.fed[2]["prev_track_id"][QUERIES:].any()


def test_a_poisoned_bev_resets_the_scene(run: Run, session: ScriptedSession) -> None:
    """Once: the frame after starts a new scene, ids continue, and then the scene goes on."""
    repairs = run(put("bev", 4))
    assert repairs == [NO_REPAIRS, Repairs(poisoned_states=("prev_bev",)), NO_REPAIRS, NO_REPAIRS]
    assert repairs[1].scene_reset
    assert str(repairs[1]) == "scene reset because not finite: prev_bev"
    assert scenes(session) == [0, 1, 0, 1]
    assert not session.fed[2]["prev_bev"].any()
    assert session.fed[2]["prev_next_track_id"] == [10]
    assert session.fed[2]["prev_track_count"] == [QUERIES + 3]


def test_bev_and_track_may_be_poisoned_together(run: Run, session: ScriptedSession) -> None:
    def change(outputs: Arrays) -> None:
        put("bev", 0)(outputs)
        put("track_box", QUERIES)(outputs)

    assert run(change)[1] == Repairs(poisoned_tracks=1, poisoned_states=("prev_bev",))
    assert scenes(session) == [0, 1, 0, 1]
    assert all(np.isfinite(array).all() for array in session.fed[2].values())


def test_a_pose_that_is_not_finite_resets_the_scene(roomy: Bundle, session: ScriptedSession, frame: Arrays) -> None:
    """It comes back as the previous pose."""
    runner = TemporalRunner(roomy, session)
    runner.step(frame | {"timestamp": np.array([np.nan], np.float32)})
    assert runner.repairs.poisoned_states == ("prev_timestamp",)
    runner.step(frame)
    assert session.fed[1]["prev_timestamp"] == [0]
    assert scenes(session) == [0, 0]


def test_fresh_rows_are_no_tracks(run: Run, session: ScriptedSession) -> None:
    """The network makes them anew in every frame; they are not forgotten, but neither passed over."""
    assert run(put("track_query", 0))[1] == Repairs(poisoned_states=("prev_track_query",))
    assert session.fed[2]["prev_track_count"] == [QUERIES + 3]


def test_padding_is_no_track(run: Run, session: ScriptedSession) -> None:
    assert run(put("track_query", ROWS - 1))[1] == NO_REPAIRS
    assert session.fed[2]["prev_track_count"] == [QUERIES + 3]
    assert all(np.isfinite(array).all() for array in session.fed[2].values())


def test_outputs_of_the_frame_itself_stay_as_they_are(roomy: Bundle, session: ScriptedSession, frame: Arrays) -> None:
    session.changes[0] = put("track_query", QUERIES)
    outputs = TemporalRunner(roomy, session).step(frame, ["track_query", "track_count"])
    assert np.isnan(outputs["track_query"]).sum() == 1
    assert outputs["track_count"] == [QUERIES + 3]


def test_ids_restart_long_before_they_overflow(run: Run, session: ScriptedSession) -> None:
    """In a new scene, so that no old track can meet a new one of the same id."""
    repairs = run(lambda outputs: outputs["next_track_id"].fill(NEXT_ID_LIMIT + 1))
    assert repairs == [NO_REPAIRS, Repairs(ids_restarted=True), NO_REPAIRS, NO_REPAIRS]
    assert str(repairs[1]) == "scene reset because track ids ran out: they restart at 0"
    assert session.fed[2]["prev_next_track_id"] == [0]
    assert session.fed[2]["prev_next_track_id"].dtype == np.int32
    assert scenes(session) == [0, 1, 0, 1]


def test_ids_continue_up_to_the_limit(run: Run) -> None:
    assert run(lambda outputs: outputs["next_track_id"].fill(NEXT_ID_LIMIT)) == [NO_REPAIRS] * 4
    frames = (2**31 - NEXT_ID_LIMIT) // ModelConfig().tracking.queries
    assert frames > 1_000_000


@pytest.mark.parametrize("next_id", [-1, NEXT_ID_LIMIT + 1])
def test_a_given_state_must_leave_room_for_ids(next_id: int, roomy: Bundle, session: ScriptedSession) -> None:
    state = {spec.name: spec.zeros(roomy.config.dimensions()) for spec in roomy.state_inputs}
    state["prev_next_track_id"][:] = next_id
    with pytest.raises(InputError, match=rf"\(max_obj_id\) is {next_id}; it must lie between 0 and 1073741824"):
        TemporalRunner(roomy, session).start(state)


def test_a_given_state_follows_no_reset(roomy: Bundle, session: ScriptedSession, frame: Arrays) -> None:
    session.changes[0] = put("bev", 0)
    runner = TemporalRunner(roomy, session)
    runner.step(frame)
    runner.start({spec.name: spec.zeros(roomy.config.dimensions()) for spec in roomy.state_inputs})
    runner.step(frame)
    assert scenes(session) == [0, 1]


def test_replay_shows_the_network_unrepaired(roomy: Bundle, session: ScriptedSession, frame: Arrays) -> None:
    session.changes[0] = put("bev", 0)
    official = {name: frame[ours] for name, ours in FRAME.items()}
    assert len(list(replay(roomy, session, [official, official]))) == 2
    assert np.isnan(session.fed[1]["prev_bev"]).any()
    assert scenes(session) == [0, 1]


def test_a_state_without_tracks_is_guarded_as_well(bundle: Bundle, network: Network, drive: list[Arrays]) -> None:
    """In torch's own memory: the distance driven starts again."""
    runner = TemporalRunner(bundle, TorchSession(network))
    runner.step(drive[0])
    runner.step(drive[1] | {"l2g_translation": np.array([np.inf, 0, 0], np.float32)})
    assert runner.repairs == Repairs(poisoned_states=("prev_l2g_translation", "prev_driven"))
    assert runner.step(drive[1], ["driven"])["driven"] == [0]
    assert runner.step(drive[3], ["driven"])["driven"] == [10]


def test_torch_looks_at_tensors_where_they_are(network: Network) -> None:
    session = TorchSession(network)
    sound = torch.tensor([[3e38, -3e38], [0, 1]])
    assert session.finite([])
    assert session.finite([sound, sound])
    for value in (torch.nan, torch.inf, -torch.inf):
        assert not session.finite([sound, torch.tensor([0, value, 1])])


def test_repairs_are_part_of_the_results(
    roomy: Bundle, session: ScriptedSession, frame: Arrays, tmp_path: Path
) -> None:
    """As values, in the JSON too."""
    session.changes[0] = put("bev", 0)
    runner = TemporalRunner(roomy, session)
    tensors = runner.step(frame)
    boxes: dict[str, Any] = {k: v for k, v in tensors.items() if k.startswith(("box", "dropped"))}
    origin = Pose(np.array([1.0, 0, 0, 0]), np.zeros(3))
    source = Frame("0007", "monday", 3.5, {}, origin, origin, Command.STRAIGHT)
    result = frame_result(boxes, unknown_result(source, runner.repairs), roomy.config, [INTERPRETATION])
    assert result.repairs.scene_reset
    values = json.loads(write_result(result, tmp_path).read_text())
    assert values["repairs"] == {"poisoned_tracks": 0, "poisoned_states": ["prev_bev"], "ids_restarted": False}
