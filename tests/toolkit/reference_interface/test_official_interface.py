"""The reference's tensor names and shapes around ours, which have a fixed capacity."""

from __future__ import annotations

import re

import numpy as np
import pytest

from toolkit.bundle import Bundle
from toolkit.errors import InputError
from toolkit.reference_interface.tensors import (
    FRAME,
    RECURRENT,
    TRACK_ROWS,
    frame_inputs,
    has_no_effect,
    outputs,
    state_inputs,
)

Arrays = dict[str, np.ndarray]
CAPACITY = 5


@pytest.fixture
def frame() -> Arrays:
    """One frame as the reference takes it, with a batch dimension here and there."""
    return {
        "img": np.zeros((1, 6, 3, 32, 32), np.float32),
        "img_metas_lidar2img": np.zeros((1, 6, 4, 4), np.float32),
        "img_metas_can_bus": np.zeros(18, np.float32),
        "timestamp": np.array([0.5]),
        "l2g_r_mat": np.eye(3, dtype=np.float32)[None],
        "l2g_t": np.array([[1, 2, 3]], np.float32),
        "command": np.array([2], np.float32),
        "use_prev_bev": np.array([1], np.int32),
    }


@pytest.fixture
def state() -> Arrays:
    """Recurrent inputs of a frame with three fresh queries and one track, whose id is 7."""
    rows = 4
    return {
        "prev_track_intances0": np.ones((rows, 8), np.float32),
        "prev_track_intances1": np.ones((rows, 3), np.float32),
        "prev_track_intances3": np.array([-1, -1, -1, 7]),
        "prev_track_intances4": np.ones(rows, np.int32),
        "prev_track_intances5": np.ones(rows, np.int32),
        "prev_track_intances6": np.ones(rows, np.float32),
        "prev_track_intances8": np.ones(rows, np.float32),
        "prev_track_intances9": np.ones((rows, 10), np.float32),
        "prev_track_intances11": np.ones((rows, 4, 4), np.float32),
        "prev_track_intances12": np.ones((rows, 4), np.int32),
        "prev_track_intances13": np.ones(rows, np.float32),
        "prev_timestamp": np.array([0.5], np.float32),
        "prev_l2g_r_mat": np.eye(3, dtype=np.float32)[None],
        "prev_l2g_t": np.zeros((1, 3), np.float32),
        "prev_bev": np.ones((6, 1, 4), np.float32),
        "max_obj_id": np.array([8], np.int32),
    }


def test_frame_inputs_lose_unit_dimensions_and_get_our_types(official_bundle: Bundle, frame: Arrays) -> None:
    ours = frame_inputs(frame, official_bundle, "f0.in.")
    dimensions = official_bundle.config.dimensions()
    assert set(ours) == {spec.name for spec in official_bundle.frame_inputs} == set(FRAME.values())
    for spec in official_bundle.frame_inputs:
        assert ours[spec.name].shape == spec.resolve(dimensions)
        assert ours[spec.name].dtype == spec.dtype
    np.testing.assert_array_equal(ours["l2g_translation"], [1, 2, 3])


def test_input_that_the_network_does_not_read_may_be_missing(bundle: Bundle, frame: Arrays) -> None:
    """Here a network without cameras."""
    del frame["img"]
    assert set(frame_inputs(frame, bundle, "")) == {"l2g_rotation", "l2g_translation", "command", "use_previous"}


def test_missing_image_is_explained(official_bundle: Bundle, frame: Arrays) -> None:
    del frame["img"]
    with pytest.raises(InputError, match=r"^f3\.in\.img is missing; it holds normalised, resized and padded camera"):
        frame_inputs(frame, official_bundle, "f3.in.")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("l2g_t", np.zeros((1, 2), np.float32), "l2g_t is float32[1, 2]; it must hold float32[3]"),
        ("img", np.zeros((5, 3, 32, 32)), "img is float64[5, 3, 32, 32]; it must hold float32[6, 3, 32, 32]"),
        ("command", np.array(["left"]), "command is <U4[1]; it must hold int32[1]"),
        ("timestamp", np.array([np.nan]), "timestamp holds non-finite values; repair the input"),
    ],
    ids=["size", "cameras", "text", "not a number"],
)
def test_unusable_input_is_explained(
    name: str, array: np.ndarray, message: str, official_bundle: Bundle, frame: Arrays
) -> None:
    with pytest.raises(InputError, match="^" + re.escape("f0.in." + message)):
        frame_inputs(frame | {name: array}, official_bundle, "f0.in.")


def test_state_is_padded_to_the_capacity(official_bundle: Bundle, state: Arrays) -> None:
    ours = state_inputs(state, official_bundle, "f0.in.")
    assert set(ours) == {spec.name for spec in official_bundle.state_inputs}
    np.testing.assert_array_equal(ours["prev_track_count"], [4])
    np.testing.assert_array_equal(ours["prev_track_id"], [-1, -1, -1, 7, 0])
    for name in TRACK_ROWS.values():
        assert len(ours[f"prev_{name}"]) == CAPACITY
        assert not ours[f"prev_{name}"][4:].any()
    assert ours["prev_bev"].shape == (6, 4)
    assert ours["prev_next_track_id"] == [8]


def test_state_is_complete_or_absent(official_bundle: Bundle, state: Arrays) -> None:
    for name in RECURRENT:
        incomplete = {key: array for key, array in state.items() if key != name}
        with pytest.raises(InputError, match=f"{name} is missing; a sequence starts from all recurrent inputs or"):
            state_inputs(incomplete, official_bundle, "f0.in.")


def test_more_tracks_than_the_capacity(official_bundle: Bundle, state: Arrays) -> None:
    state["prev_track_intances0"] = np.ones((6, 8), np.float32)
    with pytest.raises(InputError, match=r"has 6 rows; the bundle's track capacity is 5: .* larger --track-capacity"):
        state_inputs(state, official_bundle, "f0.in.")


@pytest.mark.parametrize("array", [np.ones((3, 3), np.float32), np.float32(1), np.ones((4, 4))])
@pytest.mark.parametrize("name", ["prev_track_intances0", "prev_track_intances1"])
def test_unusable_track_rows(name: str, array: np.ndarray, official_bundle: Bundle, state: Arrays) -> None:
    """As many rows as there are queries, each of the right size."""
    with pytest.raises(InputError, match=r"prev_track_intances\d is float.*; it must hold float32"):
        state_inputs(state | {name: np.asarray(array)}, official_bundle, "f0.in.")


def zero_results(bundle: Bundle, **counts: int) -> Arrays:
    """All results zero, but for these counts."""
    dimensions = bundle.config.dimensions()
    zeros = {spec.name: spec.zeros(dimensions) for spec in bundle.results}
    return zeros | {name: np.array([count], np.int32) for name, count in counts.items()}


def test_outputs_have_their_official_order_and_counts(official_bundle: Bundle, frame: Arrays) -> None:
    """Four track rows, two boxes and three ranked rows are valid."""
    dimensions = official_bundle.config.dimensions()
    results = {spec.name: spec.zeros(dimensions) for spec in official_bundle.results}
    results |= {
        name: np.array([n], np.int32) for name, n in [("track_count", 4), ("box_count", 2), ("box_row_count", 3)]
    }
    official = outputs(results, frame_inputs(frame, official_bundle, ""))
    assert {name: array.shape for name, array in official.items()} == {
        "prev_track_intances0_out": (4, 8),
        "prev_track_intances1_out": (4, 3),
        "prev_track_intances3_out": (4,),
        "prev_track_intances4_out": (4,),
        "prev_track_intances5_out": (4,),
        "prev_track_intances6_out": (4,),
        "prev_track_intances8_out": (4,),
        "prev_track_intances9_out": (4, 10),
        "prev_track_intances11_out": (4, 4, 4),
        "prev_track_intances12_out": (4, 4),
        "prev_track_intances13_out": (4,),
        "prev_timestamp_out": (1,),
        "prev_l2g_t_out": (1, 3),
        "prev_l2g_r_mat_out": (1, 3, 3),
        "bev_embed": (6, 1, 4),
        "bboxes_dict_bboxes": (2, 9),
        "scores": (2,),
        "labels": (2,),
        "bbox_index": (3,),
        "obj_idxes": (2,),
        "max_obj_id_out": (1,),
        "seg_out": (1, 5, 1, 2, 3),
        "outs_planning": (1, 6, 2),
    }


def test_outputs_without_occupancy_and_planning(official_bundle: Bundle, frame: Arrays) -> None:
    results = zero_results(official_bundle)
    del results["occupancy"], results["plan"]
    assert not {"seg_out", "outs_planning"} & set(outputs(results, frame_inputs(frame, official_bundle, "")))


def test_outputs_of_a_frame_are_the_state_of_the_next(official_bundle: Bundle, frame: Arrays) -> None:
    """Under their recurrent names they are taken back as they are."""
    given = frame_inputs(frame, official_bundle, "")
    results = zero_results(official_bundle, track_count=4)
    official = outputs(results, given)
    recurrent = {name.removesuffix("_out"): array for name, array in official.items()}
    taken = state_inputs(recurrent | {"prev_bev": official["bev_embed"]}, official_bundle, "")
    for state in official_bundle.states:
        np.testing.assert_array_equal(taken[state.input], (results | given)[state.source])


def test_arguments_without_effect() -> None:
    assert has_no_effect("gt_lane_labels")
    assert has_no_effect("prev_track_intances10")
    assert not has_no_effect("prev_track_intances1")
    assert not has_no_effect("img")
