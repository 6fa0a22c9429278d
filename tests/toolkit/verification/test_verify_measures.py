"""What two tensors differ by, how much they may, and which rows are compared with which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from toolkit.bundle import Bundle, SubmoduleRecord
from toolkit.specs import Role, TensorSpec, Tolerance
from toolkit.verification.comparison import Comparison, compare
from toolkit.verification.metrics import Errors, blocks, measure
from toolkit.verification.policy import FP32
from toolkit.verification.ranking import match_rows

SCORE = TensorSpec("box_scores", (4,), "float32", "descending", ranked_by="box_scores")
IDENTITY = TensorSpec("box_ids", (4,), "int32", "whose score it is", ranked_by="box_scores")
BOX = TensorSpec("boxes", (4, 9), "float32", "where it is", ranked_by="box_scores")
AGENT = TensorSpec("agent_label", (3,), "int32", "the best two, then the ego", ranked_by="box_scores")
CELLS = TensorSpec("cells", (4, 1, 3), "int32", "whose a cell is", ranked_by="box_scores", role=Role.OBJECT_GRID)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


NO_ERRORS = Errors(0, 0, 0, 0, 0, 1, 0, (0, 0))


def test_measures_of_floats() -> None:
    found = measure(floats(3, 4, 0), floats(3, 4.5, 0.25))
    assert found.largest == 0.5
    assert found.mean == pytest.approx(0.25)
    assert found.norm == pytest.approx(np.hypot(0.5, 0.25) / 5)
    assert found.cosine == pytest.approx((9 + 18) / 5 / np.sqrt(9 + 4.5**2 + 0.25**2))
    assert found.share == pytest.approx(2 / 3)


def test_relative_error_of_a_small_entry() -> None:
    """Is relative to the root mean square of all entries, here 2.5."""
    found = measure(floats(5, 0, 0, 0), floats(5, 0.25, 0, 0))
    assert found.largest_relative == pytest.approx(0.1)
    assert found.mean_relative == pytest.approx(0.025)


def test_measures_of_nothing() -> None:
    """Neither an empty tensor nor one of zeros divides by zero."""
    assert measure(floats(), floats()) == NO_ERRORS
    assert measure(floats(0, 0), floats(0, 0)) == NO_ERRORS
    assert measure(floats(0, 0), floats(0.3, 0.4)).norm == pytest.approx(0.5)
    assert measure(floats(0, 0), floats(0.3, 0.4)).cosine == 0


def test_angles_differ_modulo_a_turn() -> None:
    box = floats(10, 3.1415)
    assert measure(box, floats(10, -3.1415), (1,)).largest == pytest.approx(2 * np.pi - 6.283, abs=1e-4)
    assert measure(box, floats(10, -3.1415)).largest == pytest.approx(6.283)


def test_non_finite_values_differ_unless_they_are_the_same() -> None:
    values = floats(1, np.inf, np.nan)
    assert measure(values, values) == replace(NO_ERRORS, non_finite=(2, 2))
    found = measure(values, floats(1, np.inf, 0))
    assert (found.norm, found.largest, found.non_finite) == (np.inf, np.inf, (2, 1))


@pytest.mark.parametrize("broken", [None, np.nan], ids=["finite", "with a value that is not"])
def test_a_large_tensor_is_measured_in_parts(broken: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same comes out, without a copy of all of it in FP64."""
    random = np.random.default_rng(0)
    expected, actual = random.normal(size=(2, 7, 2, 5)).astype(np.float32)
    if broken is not None:
        expected[6, 1, 2] = actual[6, 1, 2] = broken
    whole = measure(expected, actual, (1,))
    monkeypatch.setattr("toolkit.verification.metrics.BLOCK", 20)
    assert len(list(blocks(expected, actual))) == 4
    parts = measure(expected, actual, (1,))
    assert astuple(parts)[:-1] == pytest.approx(astuple(whole)[:-1])
    assert parts.non_finite == whole.non_finite


@pytest.mark.parametrize(
    ("spec", "tolerance"),
    [
        (TensorSpec("plan", (6, 2), "float32", "", tolerance=Tolerance(largest=1e-3)), Tolerance(largest=1e-3)),
        (TensorSpec("of_a_plugin", (6, 2), "float32", ""), Tolerance(norm=1e-3)),
        (TensorSpec("mask", (5, 50, 50), "bool", ""), Tolerance(share=2e-3)),
        (TensorSpec("track_id", (1150,), "int32", ""), Tolerance(share=0)),
    ],
    ids=["its own", "float", "grid", "decision"],
)
def test_tolerance_of_a_tensor(spec: TensorSpec, tolerance: Tolerance) -> None:
    assert FP32.tolerance(spec) == tolerance


def test_the_measure_closest_to_its_bound_decides() -> None:
    both = Tolerance(norm=1e-3, largest=0.1)
    comparison = Comparison(0, "tracking", "boxes", replace(NO_ERRORS, norm=5e-4, largest=0.2), both)
    assert (comparison.measure, comparison.error, comparison.bound) == ("largest", 0.2, 0.1)
    assert comparison.severity == pytest.approx(2)
    assert not comparison.passed


def test_no_decision_may_differ() -> None:
    """However few: a bound of zero is exceeded by anything."""
    comparison = Comparison(0, "tracking", "track_id", replace(NO_ERRORS, share=1e-3), FP32.decisions)
    assert comparison.severity == np.inf
    assert Comparison(0, "tracking", "track_id", NO_ERRORS, FP32.decisions).passed


@pytest.fixture
def ranked(bundle: Bundle, tmp_path: Path) -> Bundle:
    """Four objects in the order of their scores; the best two are agents, with the ego behind them."""
    specs = (SCORE, IDENTITY, BOX, AGENT)
    record = SubmoduleRecord("tracking", "tests", None, tuple(spec.name for spec in specs))
    return replace(bundle, submodules=(record,), frame_inputs=(), state_inputs=(), states=(), results=specs, wires=())


def objects(scores: list[float], ids: list[int], ego: int = 99) -> dict[str, np.ndarray]:
    """Outputs in which everything about an object follows from its id."""
    return {
        "box_scores": np.array(scores, np.float32),
        "box_ids": np.array(ids, np.int32),
        "boxes": np.outer(ids, np.ones(9)).astype(np.float32),
        "agent_label": np.array([*ids[:2], ego], np.int32),
    }


def failed(bundle: Bundle, expected: Mapping[str, np.ndarray], actual: Mapping[str, np.ndarray]) -> set[str]:
    return {c.tensor for c in compare(bundle, FP32, 0, expected, actual) if not c.passed}


def test_rows_of_equal_scores_may_trade_places(ranked: Bundle) -> None:
    expected = objects([0.9001, 0.9, 0.5, 0], [7, 8, 9, 0])
    assert failed(ranked, expected, objects([0.9001, 0.9, 0.5, 0], [8, 7, 9, 0])) == set()


def test_rows_of_other_scores_may_not(ranked: Bundle) -> None:
    expected = objects([0.95, 0.9, 0.5, 0], [7, 8, 9, 0])
    assert failed(ranked, expected, objects([0.95, 0.9, 0.5, 0], [8, 7, 9, 0])) == {"box_ids", "boxes", "agent_label"}


def test_grids_of_rows_follow_rows_that_trade_places(ranked: Bundle) -> None:
    """Cells of an object stay its own at whatever place among equals it comes; of another object they fail."""
    ranked = replace(ranked, submodules=(replace(ranked.submodules[0], outputs=("box_scores", "box_ids", "cells")),))
    ranked = replace(ranked, results=(SCORE, IDENTITY, CELLS))

    def with_cells(ids: list[int], *rows: int) -> dict[str, np.ndarray]:
        return objects([0.9001, 0.9, 0.5, 0], ids) | {"cells": np.array([[rows]] * 4, np.int32)}

    expected = with_cells([7, 8, 9, 0], 1, 0, 3)
    assert failed(ranked, expected, expected) == set()
    assert failed(ranked, expected, with_cells([8, 7, 9, 0], 2, 0, 3)) == set()
    assert failed(ranked, expected, with_cells([8, 7, 9, 0], 1, 0, 3)) == {"cells"}
    assert failed(ranked, expected, with_cells([7, 8, 9, 0], 2, 0, 3)) == {"cells"}
    assert failed(ranked, expected, with_cells([7, 8, 9, 0], 1, 0, 99)) == {"cells"}


def test_what_a_row_holds_stays_together(ranked: Bundle) -> None:
    """Objects trade places as a whole: where ids alone are exchanged, either they differ or all else does."""
    expected = objects([0.9001, 0.9, 0.5, 0], [7, 8, 9, 0])
    actual = expected | {"box_ids": np.array([8, 7, 9, 0], np.int32)}
    assert failed(ranked, expected, actual)


def test_errors_in_rows_of_equal_scores_are_found(ranked: Bundle) -> None:
    expected = objects([0.9001, 0.9, 0.5, 0], [7, 8, 9, 0])
    assert failed(ranked, expected, objects([0.9001, 0.9, 0.5, 0], [8, 5, 9, 0])) >= {"box_ids", "boxes"}


def test_padding_must_agree(ranked: Bundle) -> None:
    """Padding scores are all zero, thus equal; what the rows hold is compared all the same."""
    expected = objects([0.9, 0.5, 0, 0], [7, 8, 0, 0])
    assert failed(ranked, expected, objects([0.9, 0.5, 0, 0], [7, 8, 0, 3])) == {"box_ids", "boxes"}


def test_last_rows_of_a_full_list_may_be_others(ranked: Bundle) -> None:
    """The one that is cut off here may be the one that is listed there, if their scores are equal."""
    expected = objects([0.9, 0.8, 0.5001, 0.5], [7, 8, 9, 10])
    assert failed(ranked, expected, objects([0.9, 0.8, 0.5001, 0.5], [7, 8, 11, 9])) == set()
    assert failed(ranked, expected, objects([0.9, 0.8, 0.5001, 0.5], [7, 12, 9, 10])) >= {"box_ids", "boxes"}


def test_rows_that_trade_places_over_the_edge_of_a_shorter_tensor(ranked: Bundle) -> None:
    """The agents hold another object then; the ego in their last row is not ranked and keeps its place."""
    expected = objects([0.9, 0.5001, 0.5, 0], [7, 8, 9, 0])
    assert failed(ranked, expected, objects([0.9, 0.5001, 0.5, 0], [7, 9, 8, 0])) == set()
    assert failed(ranked, expected, objects([0.9, 0.5001, 0.5, 0], [7, 8, 9, 0], ego=98)) == {"agent_label"}


def test_tensors_with_rows_behind_the_ranked_ones() -> None:
    """As the map's stuff classes behind its instances: they stay in place."""
    scores = floats(0.9001, 0.9, 0)
    order = match_rows(scores, [np.array([7, 8, 0])], [np.array([8, 7, 0])], gap=1e-3)
    expected, actual = order.pair(np.array([7, 8, 0, 50]), np.array([8, 7, 0, 51]))
    np.testing.assert_array_equal(expected, [7, 8, 0, 50])
    np.testing.assert_array_equal(actual, [7, 8, 0, 51])


def test_rows_with_non_finite_values_keep_their_place() -> None:
    scores = floats(0.9001, 0.9, 0)
    rows = np.array([[1, np.nan], [2, 3], [0, 0]], np.float32)
    np.testing.assert_array_equal(match_rows(scores, [rows], [rows], gap=1e-3).order, [0, 1, 2])
