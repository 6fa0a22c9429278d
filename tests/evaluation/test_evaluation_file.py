"""metrics.json: what an evaluation found, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.corpus.case import change_json
from tests.evaluation.evaluations import VERDICT, evaluation, figure
from toolkit.errors import InputError
from toolkit.evaluation.evaluation_file import EVALUATION, found, read_evaluation, write_evaluation
from toolkit.evaluation.metric import Plot, Ranking, Series, Verdict
from toolkit.storage.typed import Misfit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of an evaluation."""
    write_evaluation(evaluation(), tmp_path / EVALUATION)
    return tmp_path / EVALUATION


def test_an_evaluation_comes_back(path: Path) -> None:
    """From its file, and from the folder that it is in."""
    assert read_evaluation(path) == read_evaluation(path.parent) == evaluation()


def test_figures_have_full_names_and_null_where_there_was_nothing_to_judge(path: Path) -> None:
    figures = json.loads(path.read_text())["metrics"][0]["figures"]
    values = {found["name"]: found["value"] for found in figures}
    assert values == {"planning/L2@1s": 0.5, "planning/L2@3s": 1.5, "planning/hits": None}
    assert evaluation().figures["planning/L2@3s"].value == 1.5


def test_the_worst_frames_are_kept() -> None:
    """The worst first; those that are equally bad in their order, the unknown not at all."""
    [worst] = evaluation().metrics[0].worst
    assert [(frame.token, frame.badness) for frame in worst.frames] == [("b", 2.5), ("d", 2.5), ("a", 0.5)]
    many = replace(VERDICT, rankings=[Ranking("n", "n", "", {str(i): float(i) for i in range(99)})])
    assert [frame.token for frame in evaluation(many).metrics[0].worst[0].frames][:2] == ["98", "97"]
    assert len(evaluation(many).metrics[0].worst[0].frames) == 10


def test_what_numpy_computed_is_kept_as_plain_numbers(tmp_path: Path) -> None:
    steps: Any = np.arange(2)
    errors: Any = np.array([0.5, np.nan], np.float32)
    plot = Plot("p", "", "", "", [Series("s", steps, errors)])
    verdict = Verdict([figure("f", errors[0])], [plot], [Ranking("r", "", "", {"a": errors[0]})])
    write_evaluation(evaluation(verdict), tmp_path / EVALUATION)
    assert read_evaluation(tmp_path) == evaluation(verdict)


@pytest.mark.parametrize(
    ("verdict", "complaint"),
    [
        (Verdict([figure("L2", math.inf)]), r"\$.figures\[0\].value: expected a finite number, found inf"),
        (Verdict([figure("L2", 1.0), figure("L2", 2.0)]), r"\$.figures: holds the name 'planning/L2' twice"),
        (Verdict([replace(figure("L2", 1.0), unit=None)]), r"\$.figures\[0\].unit: expected str, found None"),  # type: ignore[arg-type]
        (Verdict(plots=[Plot("../p", "", "", "", [])]), r"plots\[0\].name: expected what can be part of a file's name"),
        (Verdict(plots=[Plot("p", "", "", "", [Series("s", [1], [])])]), "as many numbers in y as in x, found 1 and 0"),
        (Verdict(rankings=[Ranking("r", "", "", {"": 1.0})]), r"\$.worst\[0\].frames\[0\].token"),
    ],
)
def test_a_verdict_that_makes_no_sense_is_refused(verdict: Verdict, complaint: str) -> None:
    with pytest.raises(Misfit, match=complaint):
        found("planning", 1, verdict)


@pytest.mark.parametrize(
    ("keys", "value", "complaint"),
    [
        (("metrics", 0, "figures", 0, "value"), math.inf, r"\$.metrics\[0\].figures\[0\].value: expected a finite"),
        (("metrics", 0, "figures", 0, "name"), "map/L2@1s", "name: expected planning/…, found 'map/L2@1s'"),
        (("metrics", 0, "figures", 0, "name"), "planning/L2@3s", "holds the name 'planning/L2@3s' twice"),
        (("metrics", 0, "frames"), -1, r"\$.metrics\[0\].frames: expected int >= 0, found -1"),
        (("metrics", 0, "plots", 0, "kind"), "pie", "kind: expected lines or points or bars, found 'pie'"),
        (("metrics", 0, "plots", 0, "series", 0, "x", 1), [], r"series\[0\].x\[1\]: expected"),
        (("missing", 0, "frames"), "two", r"\$.missing\[0\].frames: expected int"),
        (("bundle",), "", r"\$.bundle: expected str that is not empty"),
        (("further",), 1, "unknown field 'further'"),
        (("format",), 2, "format is not 1; evaluate again with this version"),
    ],
)
def test_a_damaged_file_is_refused(path: Path, keys: tuple[str | int, ...], value: object, complaint: str) -> None:
    change_json(path, keys, value)
    with pytest.raises(InputError, match=complaint) as refused:
        read_evaluation(path)
    assert str(refused.value).startswith(f"{path}")
    assert "evaluate again" in str(refused.value)


def test_a_folder_without_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"cannot read {tmp_path}/metrics.json: No such file"):
        read_evaluation(tmp_path)
