"""Tracking against the golden data: the stages of one frame, and a sequence with its state fed back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from plugins.tracking.boxes import decode_boxes, gather_reports, gravity_centers, select_reports
from plugins.tracking.decoder import Detections
from plugins.tracking.lifecycle import Lifecycle, update_lifecycle
from plugins.tracking.model import Tracking
from plugins.tracking.plugin import POSE, SUBMODULE, TRACKS
from plugins.tracking.state import FREE_ID, LidarPose, Tracks
from toolkit.config.model import ModelConfig
from toolkit.specs import frame_input

Golden = dict[str, np.ndarray]

CONFIG = ModelConfig()
OFFICIAL = dict(zip(Tracks._fields, (0, 1, 3, 4, 5, 6, 8, 9, 11, 12, 13), strict=True))
"""Number of each track tensor in the official names."""
EGO = CONFIG.tracking.queries - 1


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))


def padded(array: np.ndarray) -> Tensor:
    """Rows of the reference, zero up to the track capacity."""
    missing = CONFIG.tracking.track_capacity - len(array)
    return tensor(np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)))


def pose(golden: Golden, prefix: str = "in.") -> LidarPose:
    return LidarPose(
        tensor(golden[f"{prefix}timestamp"]),
        tensor(golden[f"{prefix}l2g_r_mat"])[0],
        tensor(golden[f"{prefix}l2g_t"])[0],
    )


def frames(golden: Path, sequence: str) -> Iterator[Golden]:
    """The frames of a golden sequence, each with its ``in.*``, ``out.*`` and ``aux.*``."""
    with np.load(golden / f"golden_seed{sequence}.npz") as arrays:
        for frame in range(sum(name.endswith(".in.timestamp") for name in arrays.files)):
            prefix = f"f{frame}."
            yield {name.removeprefix(prefix): arrays[name] for name in arrays.files if name.startswith(prefix)}


@pytest.fixture(scope="module")
def module(build_submodule: Callable[..., nn.Module]) -> Tracking:
    model = build_submodule(SUBMODULE)
    assert isinstance(model, Tracking)
    return model


@pytest.fixture(scope="module")
def entered(module: Tracking, intermediates: Golden) -> tuple[Tracks, Tensor]:
    """The rows of frame 2 as they enter the decoder, and which of them are valid."""
    golden = intermediates
    state = Tracks(*(padded(golden[f"in.prev_track_intances{i}"]) for i in OFFICIAL.values()))
    count = torch.tensor([len(golden["in.prev_track_intances0"])])
    carried, valid = module.carry(state, count, torch.ones(1), pose(golden, "in.prev_"), pose(golden))
    return module.fresh().append(carried), torch.cat((torch.ones(CONFIG.tracking.queries, dtype=torch.bool), valid))


@pytest.fixture(scope="module")
def detections(intermediates: Golden) -> Detections:
    """What the reference's decoder found in frame 2, without padding."""
    golden = intermediates
    score, label = tensor(golden["track.cls_logits_L1N10"][-1, 0]).sigmoid().max(-1)
    return Detections(
        embedding=tensor(golden["track.inter_states_LNBC"][-1, :, 0]),
        reference=tensor(golden["track.inter_references_LBN3"][-1, 0]),
        box=tensor(golden["track.box_coded_L1N10"][-1, 0]),
        score=score,
        label=label.int(),
    )


@pytest.fixture(scope="module")
def lifecycle(intermediates: Golden, detections: Detections) -> Lifecycle:
    golden = intermediates
    ids, missed = tensor(golden["in.prev_track_intances3"]), tensor(golden["in.prev_track_intances5"])
    next_id = tensor(golden["in.max_obj_id"])
    return update_lifecycle(ids, missed, detections.score, next_id, CONFIG.tracking)


def test_fresh_and_carried_rows_enter_the_decoder(
    entered: tuple[Tracks, Tensor], intermediates: Golden, close: Callable[..., None]
) -> None:
    tracks, valid = entered
    rows = len(intermediates["track.query_in"])
    close("track.query_in", tracks.query[:rows])
    close("track.ref_pts_in_logit", tracks.reference[:rows])
    assert valid.sum() == rows
    np.testing.assert_array_equal(tracks.id[:rows], intermediates["track.obj_idxes_in"])


def test_decoder_layers(
    module: Tracking, entered: tuple[Tracks, Tensor], intermediates: Golden, close: Callable[..., None]
) -> None:
    tracks, valid = entered
    rows = len(intermediates["track.query_in"])
    head = module.pts_bbox_head
    bev = tensor(intermediates["out.bev_embed"])[:, 0]
    layers = head.transformer["decoder"](tracks.query, tracks.reference.sigmoid(), bev, valid, head.reg_branches)
    state, reference, box = (torch.stack(part)[:, :rows] for part in zip(*layers, strict=True))
    close("track.inter_states_LNBC", state)
    close("track.inter_references_LBN3", reference)
    close("track.box_coded_L1N10", box)
    for name, branches in (
        ("track.cls_logits_L1N10", head.cls_branches),
        ("track.past_traj_L1N82", head.past_traj_reg_branches),
    ):
        close(name, torch.stack([branch(x) for branch, x in zip(branches, state, strict=True)]))


def test_track_update(lifecycle: Lifecycle, intermediates: Golden) -> None:
    expected = intermediates["t2m.all.obj_idxes"].copy()
    assert expected[EGO] == -2  # how the reference marks the ego inside a frame
    expected[EGO] = FREE_ID
    np.testing.assert_array_equal(lifecycle.id, expected)
    np.testing.assert_array_equal(lifecycle.missed, intermediates["t2m.all.disappear_time"])
    np.testing.assert_array_equal(lifecycle.next_id, intermediates["out.max_obj_id_out"])


def test_reports_and_agents(
    detections: Detections, lifecycle: Lifecycle, intermediates: Golden, close: Callable[..., None]
) -> None:
    selection = select_reports(detections.box, detections.score, lifecycle.active, CONFIG.tracking)
    reports, agents = gather_reports(selection, detections, lifecycle.id, CONFIG.tracking)
    n = int(selection.row_count)
    assert n == int(selection.active_count) == len(intermediates["t2m.active.scores"])
    close("t2m.active.bboxes", reports.boxes[:n])
    close("t2m.active.scores", reports.scores[:n])
    np.testing.assert_array_equal(reports.labels[:n], intermediates["t2m.active.labels"])
    np.testing.assert_array_equal(reports.ids[:n], intermediates["t2m.active.obj_idxes"])
    np.testing.assert_array_equal(selection.active_rank[:n], intermediates["t2m.active.bbox_index"])

    close("t2m.active.embeddings", agents.embedding[:n])
    close("t2m.active.gravity_center", agents.center[:n])
    close("t2m.active.yaw", agents.yaw[:n])
    close("t2m.sdc.embedding", agents.embedding[-1])
    close("t2m.sdc.gravity_center", agents.center[-1])
    close("t2m.sdc.yaw", agents.yaw[-1])
    close("t2m.sdc.scores", agents.score[-1])
    assert agents.label[-1] == int(intermediates["t2m.sdc.label"][0])
    assert agents.valid.tolist() == [True] * n + [False] * (len(agents.valid) - n - 1) + [True]


def test_ego_box(detections: Detections, close: Callable[..., None]) -> None:
    box = decode_boxes(detections.box[EGO : EGO + 1])
    close("t2m.sdc.bboxes", box)
    close("t2m.sdc.gravity_center", gravity_centers(box))


def test_memory_bank(
    module: Tracking,
    entered: tuple[Tracks, Tensor],
    detections: Detections,
    intermediates: Golden,
    close: Callable[..., None],
) -> None:
    tracks = entered[0].take(torch.arange(len(detections.score)))
    embedding, tracks = module.memory_bank(tracks, detections.embedding, detections.score)
    # The reference leaves the ego, whose row never survives, out of the memory.
    others = torch.arange(len(embedding)) != EGO
    for name, actual in (
        ("t2m.all.output_embedding_after_memory", embedding),
        ("t2m.all.mem_bank", tracks.memory),
        ("t2m.all.save_period", tracks.save_period),
    ):
        expected = tensor(intermediates[name])
        close(name, torch.where(others.view(-1, *(1,) * (actual.ndim - 1)), actual, expected))
    np.testing.assert_array_equal(
        tracks.memory_padding[others], intermediates["t2m.all.mem_padding_mask"][others.numpy()]
    )


def run_frame(module: nn.Module, golden: Golden, previous: LidarPose, state: list[Tensor]) -> dict[str, Tensor]:
    bev = tensor(golden["out.bev_embed"])[:, 0]
    outputs = module(bev, tensor(golden["in.use_prev_bev"]), *pose(golden), *previous, *state)
    return dict(zip([spec.name for spec in SUBMODULE.outputs], outputs, strict=True))


def empty_sequence() -> tuple[LidarPose, list[Tensor]]:
    """The state before the first frame: zeros."""
    dimensions = CONFIG.dimensions()
    return (
        LidarPose(*(tensor(spec.zeros(dimensions)) for spec in map(frame_input, POSE))),
        [tensor(spec.zeros(dimensions)) for spec in TRACKS],
    )


def check_frame(outputs: dict[str, Tensor], golden: Golden, noise: dict[str, Any]) -> None:
    """Every output that the reference has: integers identical, floats within ten times its own noise."""

    def check(name: str, actual: Tensor) -> None:
        expected = golden[name]
        assert actual.shape == expected.shape, name
        if np.issubdtype(expected.dtype, np.integer):
            np.testing.assert_array_equal(actual, expected, err_msg=name)
        else:
            np.testing.assert_allclose(actual, expected, rtol=0, atol=10 * noise[name]["max_abs"] + 1e-6, err_msg=name)

    rows = int(outputs["track_count"])
    for name, number in OFFICIAL.items():
        check(f"out.prev_track_intances{number}_out", outputs[f"track_{name}"][:rows])
        assert not outputs[f"track_{name}"][rows:].any(), f"padding of track_{name} is not zero"
    check("out.max_obj_id_out", outputs["next_track_id"])

    boxes, ranked = int(outputs["box_count"]), int(outputs["box_row_count"])
    for name, official in (
        ("boxes", "out.bboxes_dict_bboxes"),
        ("box_scores", "out.scores"),
        ("box_labels", "out.labels"),
        ("box_ids", "out.obj_idxes"),
    ):
        check(official, outputs[name][:boxes])
        assert not outputs[name][boxes:].any(), f"padding of {name} is not zero"
    check("out.bbox_index", outputs["box_rows"][:ranked])
    check_detections(outputs, golden, 10 * noise["aux.t2m.all.scores"]["max_abs"])
    check("aux.t2m.active.gravity_center", outputs["agent_center"][:boxes])
    check("aux.t2m.active.yaw", outputs["agent_yaw"][:boxes])
    assert not outputs["dropped_tracks"].any()
    assert not outputs["dropped_agents"].any()


def check_detections(outputs: dict[str, Tensor], golden: Golden, tolerance: float) -> None:
    """The best rows by the reference's scores, the reported boxes among them."""
    most = CONFIG.tracking.max_reports
    assert outputs["detection_count"].tolist() == [most]
    best = np.sort(golden["aux.t2m.all.scores"])[::-1][:most]
    np.testing.assert_allclose(outputs["detection_scores"], best, rtol=0, atol=tolerance)
    listed = {tuple(box): (score, label) for box, score, label in rows_of(outputs, "detection")}
    for box, score, label in rows_of(outputs, "box"):
        assert listed[tuple(box)] == (score, label)


def rows_of(outputs: dict[str, Tensor], kind: str) -> Iterator[tuple[list[float], float, int]]:
    """Box, score and label of the valid rows of a list of boxes."""
    count = int(outputs[f"{kind}_count"])
    boxes = outputs["boxes" if kind == "box" else f"{kind}_boxes"]
    yield from zip(
        *(rows[:count].tolist() for rows in (boxes, outputs[f"{kind}_scores"], outputs[f"{kind}_labels"])), strict=True
    )


def test_sequence_with_its_own_state(module: Tracking, golden: Path) -> None:
    """All frames of A on the reference's BEV, a scene change included; the state is our own, fed back."""
    noise = json.loads((golden / "noise_seedA.json").read_text())
    previous, state = empty_sequence()
    for frame in frames(golden, "A"):
        outputs = run_frame(module, frame, previous, state)
        check_frame(outputs, frame, noise)
        previous, state = pose(frame), [outputs[spec.name] for spec in TRACKS]
