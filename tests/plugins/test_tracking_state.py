"""The recurrent state at fixed capacity: scene changes, overflow, padding, and a long replay of track lives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from plugins.tracking.decoder import Detections
from plugins.tracking.model import Tracking
from plugins.tracking.plugin import SUBMODULE, TRACKS
from plugins.tracking.selection import where_valid
from plugins.tracking.state import FREE_ID
from tests.joined import inputs_of
from toolkit.config.model import BevConfig, ModelConfig, TrackingConfig
from toolkit.specs import TensorSpec

SMALL = ModelConfig(
    embed=16,
    feedforward=24,
    bev=BevConfig(height=5, width=4),
    tracking=TrackingConfig(queries=12, layers=2, track_capacity=16, max_reports=16, agent_capacity=3),
)
INPUTS = SUBMODULE.reads
OUTPUTS = [spec.name for spec in SUBMODULE.outputs]
State = dict[str, Tensor]


class ScriptedHead(nn.Module):
    """Stands in for the decoder: detections in the middle of the range with the scores of a script."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.scores: list[float] = []

    def forward(self, query: Tensor, reference: Tensor, bev: Tensor, valid: Tensor) -> Detections:
        rows = len(query)
        score = torch.zeros(rows)
        score[: len(self.scores)] = torch.as_tensor(self.scores)
        return Detections(
            embedding=torch.randn(rows, self.config.embed),
            reference=torch.full((rows, 3), 0.5),
            box=torch.zeros(rows, 10),
            score=where_valid(valid, score, -1.0),
            label=torch.zeros(rows, dtype=torch.int32),
        )


class Sequence:
    """Feeds a module its own state, frame by frame."""

    def __init__(self, module: nn.Module, config: ModelConfig) -> None:
        self.module = module
        dimensions = config.dimensions()
        self.inputs = {spec.name: torch.from_numpy(spec.zeros(dimensions)) for spec in inputs_of(SUBMODULE)}
        self.inputs["l2g_rotation"] = torch.eye(3)

    def step(self, *, use_previous: bool = True) -> State:
        self.inputs["use_previous"] = torch.tensor([int(use_previous)], dtype=torch.int32)
        outputs = dict(zip(OUTPUTS, self.module(*(self.inputs[name] for name in INPUTS)), strict=True))
        available = self.inputs | outputs
        self.inputs |= {state.input: available[state.source] for state in SUBMODULE.states}
        return outputs


def scripted(config: ModelConfig) -> tuple[Sequence, ScriptedHead]:
    torch.manual_seed(0)
    module = Tracking(config).eval()
    head = ScriptedHead(config)
    module.pts_bbox_head = head  # type: ignore[assignment]
    return Sequence(module, config), head


def test_survivors_follow_the_fresh_queries_newest_first() -> None:
    sequence, head = scripted(SMALL)
    head.scores = [0, 0.5, 0, 0.6]
    first = sequence.step(use_previous=False)
    assert first["track_id"].tolist() == [FREE_ID] * 12 + [0, 1, 0, 0]
    assert first["track_count"].tolist() == [14]

    head.scores = [0, 0, 0, 0, 0.5] + [0] * 7 + [0.7, 0.3]
    second = sequence.step()
    assert second["track_id"][12:].tolist() == [2, 0, 1, 0]
    assert second["track_missed"][12:].tolist() == [0, 0, 1, 0]
    assert second["box_ids"][: int(second["box_count"])].tolist() == [0, 2]
    assert second["box_rows"][: int(second["box_row_count"])].tolist() == [1, 0]
    assert second["next_track_id"].tolist() == [3]


def test_a_scene_change_drops_all_tracks_but_ids_continue() -> None:
    sequence, head = scripted(SMALL)
    head.scores = [0.5, 0.5]
    sequence.step(use_previous=False)
    head.scores = [0, 0, 0.5] + [0] * 9 + [0.9, 0.9]
    outputs = sequence.step(use_previous=False)
    assert outputs["box_ids"][: int(outputs["box_count"])].tolist() == [2]
    assert outputs["track_count"].tolist() == [13]
    assert outputs["next_track_id"].tolist() == [3]


def test_the_lowest_scored_survivors_are_dropped_when_the_state_is_full() -> None:
    sequence, head = scripted(SMALL)
    head.scores = [0.5, 0.9, 0.6, 0.45, 0.7, 0.8]
    outputs = sequence.step(use_previous=False)
    assert outputs["track_id"][12:].tolist() == [1, 2, 4, 5]
    assert outputs["track_count"].tolist() == [16]
    assert outputs["dropped_tracks"].tolist() == [2]
    assert outputs["next_track_id"].tolist() == [6]
    assert outputs["box_ids"][:6].tolist() == [1, 5, 4, 2, 0, 3]
    assert outputs["dropped_agents"].tolist() == [3]

    head.scores = [0.0] * 12 + [0.5, 0.5, 0.5, 0.5]
    outputs = sequence.step()
    assert outputs["track_id"][12:].tolist() == [1, 2, 4, 5]
    assert outputs["dropped_tracks"].tolist() == [0]


def test_a_frame_without_tracks_leaves_fresh_queries_and_zeros() -> None:
    sequence, _ = scripted(SMALL)
    outputs = sequence.step(use_previous=False)
    assert outputs["track_count"].tolist() == [12]
    assert outputs["box_count"].tolist() == outputs["box_row_count"].tolist() == [0]
    assert outputs["agent_valid"].tolist() == [False] * 3 + [True]
    for spec in TRACKS:
        if spec.shape[0] == "tracks":
            assert not outputs[spec.name][12:].any()
    assert outputs["track_memory_padding"][:12].all()


def carrying_state(config: ModelConfig, ids: list[int], padding: Callable[[TensorSpec], float]) -> State:
    """Inputs of a frame in the middle of a scene: one carried row for each id, then padding rows."""
    generator = torch.Generator().manual_seed(1)
    dimensions = config.dimensions()
    count = config.tracking.queries + len(ids)
    inputs = {}
    for spec in inputs_of(SUBMODULE):
        shape = spec.resolve(dimensions)
        is_row = bool(shape) and spec.name.startswith("prev_track") and shape[0] == dimensions["tracks"]
        drawn = torch.randn((count, *shape[1:]) if is_row else shape, generator=generator)
        value = drawn if spec.dtype == "float32" else torch.zeros_like(drawn, dtype=torch.int32)
        if is_row:
            filler = torch.full((shape[0] - count, *shape[1:]), padding(spec), dtype=value.dtype)
            value = torch.cat((value, filler))
        inputs[spec.name] = value
    inputs["prev_track_id"][config.tracking.queries : count] = torch.tensor(ids, dtype=torch.int32)
    inputs["prev_track_count"] = torch.tensor([count], dtype=torch.int32)
    inputs["prev_next_track_id"] = torch.tensor([max(ids) + 1], dtype=torch.int32)
    inputs["use_previous"] = torch.ones(1, dtype=torch.int32)
    return inputs


def outputs_of(module: nn.Module, inputs: State) -> State:
    return dict(zip(OUTPUTS, module(*(inputs[name] for name in INPUTS)), strict=True))


@pytest.fixture
def small() -> Tracking:
    torch.manual_seed(0)
    return Tracking(SMALL).eval()


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e6])
def test_padding_rows_never_leak(small: Tracking, garbage: float) -> None:
    clean = outputs_of(small, carrying_state(SMALL, [3, 8], lambda _: 0))
    dirty = outputs_of(small, carrying_state(SMALL, [3, 8], lambda spec: garbage if spec.dtype == "float32" else 7))
    for name in OUTPUTS:
        assert clean[name].isfinite().all(), name
        assert torch.equal(dirty[name], clean[name]), name


def test_nothing_of_the_previous_scene_leaks_into_a_new_one(small: Tracking) -> None:
    """Not even from a state that is not finite."""
    broken = carrying_state(SMALL, [3, 8], lambda spec: float("nan") if spec.dtype == "float32" else 7)
    broken |= {
        name: torch.full_like(x, float("nan"))
        for name, x in broken.items()
        if name.startswith("prev_") and x.is_floating_point()
    }
    broken["use_previous"] = torch.zeros(1, dtype=torch.int32)
    clean = carrying_state(SMALL, [3, 8], lambda _: 0) | {"use_previous": broken["use_previous"]}
    expected = outputs_of(small, clean)
    for name, actual in outputs_of(small, broken).items():
        assert torch.equal(actual, expected[name]), name


def test_the_capacity_does_not_change_the_result(small: Tracking) -> None:
    """Twice the rows, same weights: the valid rows are the same."""
    larger = replace(SMALL, tracking=replace(SMALL.tracking, track_capacity=32))
    module = Tracking(larger).eval()
    module.load_state_dict(small.state_dict())
    config = replace(SMALL, tracking=replace(SMALL.tracking, track_capacity=28))
    tight = Tracking(config).eval()
    tight.load_state_dict(small.state_dict())
    expected = outputs_of(tight, carrying_state(config, [3, 8], lambda _: 0))
    actual = outputs_of(module, carrying_state(larger, [3, 8], lambda _: 0))
    assert expected["track_count"] > 14
    for name in OUTPUTS:
        torch.testing.assert_close(actual[name][: len(expected[name])], expected[name], msg=name)


@pytest.mark.converts
def test_export_has_fixed_shapes(small: Tracking) -> None:
    """Exports without data-dependent shapes; outputs are what the specs say."""
    arguments = tuple(torch.from_numpy(spec.zeros(SMALL.dimensions())) for spec in inputs_of(SUBMODULE))
    program = torch.export.export(small, arguments)
    for spec, output in zip(SUBMODULE.outputs, program.module()(*arguments), strict=True):
        assert tuple(output.shape) == spec.resolve(SMALL.dimensions()), spec.name
        assert output.dtype == getattr(torch, spec.dtype), spec.name


def test_track_lives_of_sequence_c(golden: Path) -> None:
    """Ten frames with 31 deaths and a scene change, replayed from the reference's scores with our state fed back."""
    config = ModelConfig()
    sequence, head = scripted(config)
    deaths = 0
    with np.load(golden / "golden_seedC.npz") as arrays:
        for frame in range(10):
            head.scores = arrays[f"f{frame}.aux.t2m.all.scores"]
            carried = int(sequence.inputs["prev_track_count"]) - config.tracking.queries
            use_previous = bool(arrays[f"f{frame}.in.use_prev_bev"][0])
            outputs = sequence.step(use_previous=use_previous)
            rows = int(outputs["track_count"])
            for official, name in {
                "prev_track_intances3_out": "track_id",
                "prev_track_intances4_out": "track_matched",
                "prev_track_intances5_out": "track_missed",
                "prev_track_intances12_out": "track_memory_padding",
                "prev_track_intances13_out": "track_save_period",
            }.items():
                np.testing.assert_array_equal(outputs[name][:rows], arrays[f"f{frame}.out.{official}"], err_msg=name)
            np.testing.assert_array_equal(outputs["next_track_id"], arrays[f"f{frame}.out.max_obj_id_out"])
            for official, name, size in (
                ("obj_idxes", "box_ids", "box_count"),
                ("scores", "box_scores", "box_count"),
                ("bbox_index", "box_rows", "box_row_count"),
            ):
                np.testing.assert_array_equal(
                    outputs[name][: int(outputs[size])], arrays[f"f{frame}.out.{official}"], err_msg=name
                )
            if use_previous:
                born = int(outputs["next_track_id"]) - int(arrays[f"f{frame - 1}.out.max_obj_id_out"][0])
                deaths += carried + born - (rows - config.tracking.queries)
    assert deaths == 31
