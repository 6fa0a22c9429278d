"""`evaluate --require` and `--against`: a gate, and two evaluations side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.evaluating import evaluate, evaluated, said
from tests.evaluation.hand_made_results import write_results
from toolkit.evaluation.evaluation_file import read_evaluation


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Of all frames."""
    return write_results(tmp_path / "results")


@pytest.mark.parametrize("required", ["ends/mean@3s<=0.7", "ends/good > 60", "cars/seen/all>=6", "ends/mean@2s<1e0"])
def test_a_requirement_that_holds(required: str, results: Path, tmp_path: Path) -> None:
    assert evaluate(results, "-o", tmp_path / "out", "--require", required) == 0


@pytest.mark.parametrize(
    ("required", "complaint"),
    [
        ("ends/mean@3s<0.5", "ends/mean@3s < 0.5 does not hold: it is 0.6625"),
        ("ends/unknown<=1", "ends/unknown <= 1 does not hold: there was nothing to judge"),
    ],
)
def test_a_requirement_that_does_not_hold(
    required: str, complaint: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything is written first."""
    assert evaluate(results, "-o", tmp_path / "out", "--require", required, "--require", "ends/good>1") == 1
    assert f"1 of 2 requirements do not hold: {complaint}" in said(capsys)
    assert read_evaluation(tmp_path / "out").frames == 6


def test_a_requirement_of_what_was_not_judged_does_not_hold(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(results, "-o", tmp_path / "out", "--require", "cars/seen/all>1", data="hand:test") == 1
    assert "cars/seen/all > 1 does not hold: there was nothing to judge" in said(capsys)


@pytest.mark.parametrize(
    ("required", "complaint"),
    [
        ("ends/mean@4s<=1", "there is no such figure; there are ends/mean@3s, ends/mean@2s"),
        ("comfort/jerk<1", "there is no metric 'comfort' here; figures begin with one of ends/, cars/"),
        ("ends/mean", "--require 'ends/mean' is not FIGURE<=NUMBER, with <=, >=, < or >"),
        ("ends/mean<=fast", "is not FIGURE<=NUMBER"),
        ("ends/mean@3s<=1e999", "is not FIGURE<=NUMBER"),
    ],
)
def test_a_requirement_of_no_figure_is_refused(
    required: str, complaint: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(results, "-o", tmp_path / "out", "--require", required) == 2
    assert complaint in said(capsys)


@pytest.mark.parametrize("name", ["before", "before/metrics.json"])
def test_against_another_evaluation(
    name: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Better and worse go by what is better for each figure; what is equal is counted."""
    evaluated(tmp_path / "before", [write_results(tmp_path / "worse", (3, 4))], "--allow-missing")
    capsys.readouterr()
    evaluated(tmp_path / "out", [results], "--against", tmp_path / name)
    printed = said(capsys)
    assert "ends/mean@3s │ 0.6625 │ 1.5 │ -0.8375 │ m │ better" in printed
    assert "ends/good │ 66.67 │ 0 │ +66.67 │ % │ better" in printed
    assert "ends/unknown" not in printed.partition("against")[2]
    assert "1 of 5 figures are equal" in printed
    assert "is not of the same: frames 6, not 2" in printed


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("published.json", '{"ends/mean@3s": 0.5, "ends/good": 80, "comfort/jerk": 1.0}'),
        ("published.toml", '"ends/mean@3s" = 0.5\n"ends/good" = 80\n'),
    ],
)
def test_against_published_figures(
    name: str, text: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    evaluated(tmp_path / "out", [results], "--against", tmp_path / name)
    printed = said(capsys)
    assert "ends/mean@3s │ 0.6625 │ 0.5 │ +0.1625 │ m │ worse" in printed
    assert "ends/good │ 66.67 │ 80 │ -13.33 │ % │ worse" in printed


def test_a_path_is_shown_as_it_is(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not as markup of the terminal's."""
    published = tmp_path / "[red]p[" / "nope].json"
    published.parent.mkdir()
    published.write_text('{"ends/good": 80}')
    evaluated(tmp_path / "out", [results], "--against", published)
    assert "[red]p[/nope].json: 0 of 1 figures" in said(capsys)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        (
            "p.json",
            '{"ends/good": "80"}',
            "p.json holds no figures: $['ends/good']: expected float, found '80'; give an",
        ),
        ("p.json", "{}", "p.json holds no figures; give an evaluation, or figures by name"),
        ("p.json", "[1]", "p.json: expected an object, found list; give an evaluation"),
        ("p.json", '{"metrics": []}', "p.json: format is not 1; evaluate again"),
        ("p.json", '{"a": 1e999}', "p.json holds no figures: $.a: expected a finite number, found inf"),
        ("p.toml", "a = ", "p.toml: Invalid value"),
        ("p.toml", "[planning]\nL2 = 1.0", "p.toml holds no figures: $.planning: expected float, found {'L2': 1.0}"),
    ],
)
def test_figures_that_cannot_be_read(
    name: str, text: str, complaint: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    assert evaluate(results, "-o", tmp_path / "out", "--against", tmp_path / name) == 2
    assert complaint in said(capsys)


def test_against_what_has_other_figures(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.json").write_text('{"comfort/jerk": 1.0}')
    evaluated(tmp_path / "out", [results], "--against", tmp_path / "p.json")
    assert "p.json has no figure of this evaluation: there is nothing to compare" in said(capsys)


@pytest.mark.parametrize("option", [("--session", "torch"), ("--precision", "fp32"), ("--workers", "2")])
def test_options_of_a_run_are_refused_with_finished_results(
    option: tuple[str, str], results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(results, "-o", tmp_path / "out", *option) == 2
    assert f"{option[0]} says how a bundle is run, and the results are of a run already" in said(capsys)
