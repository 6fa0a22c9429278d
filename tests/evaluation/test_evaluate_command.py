"""`uniad-toolkit evaluate`, on results and a data set made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation import judging_plugin
from tests.evaluation.evaluating import evaluate, evaluated, said, values
from tests.evaluation.evaluations import evaluation, figure
from tests.evaluation.hand_made_results import ERRORS, result, write_results
from tests.evaluation.judging_plugin import RIGHT
from tests.toolkit.toy_bundle import write_toy_bundle
from toolkit.cli.evaluation_tables import figure_table
from toolkit.evaluation.metric import Verdict
from toolkit.runtime.result_writer import write_result
from toolkit.runtime.run_record import FrameRecord, RunRecord


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Of all frames."""
    return write_results(tmp_path / "results")


def test_figures_are_what_metrics_find(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the table, those of one quantity share a line."""
    evaluation = evaluated(tmp_path / "out", [results])
    mean = sum(np.float32(RIGHT + error) - RIGHT for error in ERRORS.values()) / 6
    assert values(evaluation) == {
        "ends/mean@2s": pytest.approx(mean / 2),
        "ends/mean@3s": pytest.approx(mean),
        "ends/good": pytest.approx(400 / 6),
        "ends/unknown": None,
        "cars/seen/all": 6,
    }
    assert (evaluation.bundle, evaluation.session, evaluation.data) == ("d" * 64, "onnxruntime", "hand:val")
    assert (evaluation.frames, evaluation.missing) == (6, ())
    assert [frame.token for frame in evaluation.metrics[0].worst[0].frames][:2] == ["frame4", "frame3"]
    printed = said(capsys)
    assert "mean │ 2s 0.3313 3s 0.6625 │ m │ by hand" in printed
    assert f"wrote 5 figures: {tmp_path}/out/metrics.json" in printed
    assert f"wrote submission: {tmp_path}/out/submission/ends.json" in printed


def test_plots_and_the_worst_frames_are_drawn(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(tmp_path / "out", [results], "--pictures")
    assert [path.name for path in (tmp_path / "out/plots").iterdir()] == ["ends-end.png"]
    assert sorted(path.name for path in (tmp_path / "out/worst").iterdir()) == [
        "ends-end_1_frame4.png",
        "ends-end_2_frame3.png",
        "ends-end_3_frame2.png",
    ]
    assert f"wrote pictures of the worst frames: {tmp_path}/out/worst" in said(capsys)


def test_figures_of_many_classes_are_counted() -> None:
    """A table has those of up to four classes, and the first rows of a metric."""
    classes = {name: [f"{name}/{i}" for i in range(count)] for name, count in {"AP": 5, "EPA": 3, "mAP": 1}.items()}
    names = ["AP", *classes["AP"], *classes["EPA"], *classes["mAP"], *(f"further{i}" for i in range(20))]
    judged = evaluation(Verdict([figure(name, float(i)) for i, name in enumerate(names)]))
    table = figure_table(judged)
    assert [str(name) for name in table.columns[1].cells][:4] == ["AP", "EPA", "mAP/0", "further0"]
    assert [str(value) for value in table.columns[2].cells][:2] == ["0", "0 6  1 7  2 8"]
    assert [str(rule) for rule in table.columns[4].cells][:2] == ["by hand", ""]
    assert len(table.rows) == 12
    assert table.caption == "16 figures, most of single classes, are left out; --all shows them"
    assert len(figure_table(judged, every=True).rows) == len(names)


def test_all_figures_have_a_line_each_with_all(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(tmp_path / "out", [results], "--all")
    printed = said(capsys)
    assert "mean@3s │ 0.6625 │ m │ │" in printed
    assert "seen/all │ 6 │" in printed


def test_shards_add_up(results: Path, tmp_path: Path) -> None:
    """To the last digit, in whatever order they are given."""
    shards = [write_results(tmp_path / name, numbers) for name, numbers in {"1": (2, 3), "0": (0, 1, 4, 5)}.items()]
    whole, parts = evaluated(tmp_path / "whole", [results]), evaluated(tmp_path / "parts", shards)
    assert (tmp_path / "whole/metrics.json").read_bytes() == (tmp_path / "parts/metrics.json").read_bytes()
    assert whole == parts
    assert json.loads((tmp_path / "parts/submission/ends.json").read_text())[3] == 1.0


def test_a_shard_may_be_empty(results: Path, tmp_path: Path) -> None:
    """Where there are fewer scenes than shards."""
    assert evaluated(tmp_path / "out", [write_results(tmp_path / "none", ()), results]).frames == 6


def test_missing_frames_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = write_results(tmp_path / "some", (0, 1, 2, 4), left_out=(2,))
    assert evaluate(some, "-o", tmp_path / "out") == 2
    assert (
        "3 of 6 frames have no results, first frame2, 1 of them because values were not finite; give all shards, or "
        "judge what is there with --allow-missing"
    ) in said(capsys)
    assert not (tmp_path / "out").exists()


def test_missing_frames_may_be_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = write_results(tmp_path / "some", (0, 1, 2, 4), left_out=(2,))
    evaluation = evaluated(tmp_path / "out", [some], "--allow-missing")
    assert evaluation.frames == 3
    assert values(evaluation)["cars/seen/all"] == 3
    assert [str(gap) for gap in evaluation.missing] == [
        "finite results: missing in 1 frame, first frame2",
        "results: missing in 2 frames, first frame3",
    ]
    assert "note results: missing in 2 frames, first frame3" in said(capsys)


def test_no_results_at_all_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where some may be missing."""
    none = write_results(tmp_path / "none", ())
    for allowed in ((), ("--allow-missing",)):
        assert evaluate(none, "-o", tmp_path / "out", *allowed) == 2
        assert "none of the 6 frames has results; give the folder of a run with frames" in said(capsys)


def test_metrics_may_read_what_they_wrote(tmp_path: Path) -> None:
    """The folder of `compute` is that of `export`."""
    one = write_results(tmp_path / "one", (0,))
    evaluation = evaluated(tmp_path / "out", [one], "--allow-missing")
    assert evaluation.metrics[0].notes == ("read back [0.125]",)


def test_results_of_another_split_are_refused(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = replace(result(0), frame="00006_elsewhere")
    write_result(stranger, results)
    record = RunRecord.read(results)
    replace(record, frames=(*record.frames, FrameRecord.of_result(stranger, {}, left_out=False))).write(results)
    assert evaluate(results, "-o", tmp_path / "out") == 2
    assert "00006_elsewhere.json: hand:val has no such frame: these are results of another split" in said(capsys)


@pytest.mark.parametrize(
    ("head", "complaint"),
    [
        ({"bundle": "e" * 64}, f"holds results of the bundle {'e' * 40}, "),
        ({"session": "cuda"}, "holds results of the session cuda, "),
        ({"precision": "fp16"}, "holds results of the precision fp16, "),
        ({"decoder": "nvjpeg"}, "holds results of the decoder nvjpeg, "),
        ({"refinements": ("--smooth", "--slow")}, "holds results of the refinements --smooth, --slow, "),
    ],
)
def test_results_of_two_runs_are_refused(
    head: dict[str, Any], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write_results(tmp_path / "0", (0, 1, 2)), write_results(tmp_path / "1", (3, 4, 5), **head)
    assert evaluate(first, second, "-o", tmp_path / "out") == 2
    printed = said(capsys)
    assert f"{second} {complaint}{first} of " in printed
    assert "evaluate them apart" in printed


def test_a_frame_in_two_folders_is_refused(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_results(tmp_path / "other", (3,))
    assert evaluate(results, other, "-o", tmp_path / "out") == 2
    assert f"frame 00003_frame3 is in {results} and in {other}; give each frame once" in said(capsys)


def test_the_same_folder_twice_is_refused(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(results, results, "-o", tmp_path / "out") == 2
    assert f"{results} is given twice; give each folder once" in said(capsys)


def test_results_that_run_did_not_write_are_refused(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(replace(result(0), frame="00009_frame9"), results)
    assert evaluate(results, "-o", tmp_path / "out") == 2
    assert "00009_frame9.json: is in no line of run.jsonl beside it" in said(capsys)


def test_hidden_files_are_no_results(results: Path, tmp_path: Path) -> None:
    """Some systems leave them beside copied files."""
    (results / "._00002_frame2.json").write_bytes(b"\x00\x05\x16\x07")
    assert evaluated(tmp_path / "out", [results]).frames == 6


def test_what_a_run_is_called_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither as markup nor as what a terminal obeys."""
    evaluated(tmp_path / "out", [write_results(tmp_path / "results", session="[red]a[/nope]\x1b[2J")])
    assert r"6 frames, [red]a[/nope]\x1b[2J session" in said(capsys)


def test_a_damaged_result_is_named(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results / "00002_frame2.json").write_text("{")
    assert evaluate(results, "-o", tmp_path / "out") == 2
    assert "00002_frame2.json is not valid JSON" in said(capsys)
    assert not (tmp_path / "out").exists()


def test_what_only_some_results_lack_is_counted(tmp_path: Path) -> None:
    some = write_results(tmp_path / "some")
    write_result(replace(result(4), plan=None), some)
    evaluation = evaluated(tmp_path / "out", [some])
    assert [str(gap) for gap in evaluation.metrics[0].gaps] == ["plan in the results: missing in 1 frame, first frame4"]
    assert evaluation.metrics[0].frames == 5


def test_what_all_results_lack_is_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The other metrics are."""
    none = write_results(tmp_path / "none")
    for number in ERRORS:
        write_result(replace(result(number), plan=None, further={"my_plan": np.ones(2, np.float32)}), none)
    evaluation = evaluated(tmp_path / "out", [none])
    assert values(evaluation) == {"cars/seen/all": 6}
    printed = said(capsys)
    assert "note ends: not judged: no frame has plan in the results" in printed
    assert "note results that no submodule interprets, and no metric judges: my_plan" in printed


def test_a_data_set_without_annotations_is_said(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = evaluated(tmp_path / "out", [results], data="hand:test")
    assert "cars/seen/all" not in evaluation.figures
    assert evaluation.figures["ends/mean@3s"].value is not None
    assert "note cars: not judged: no frame has annotations" in said(capsys)


def test_a_metric_without_its_package_leaves_the_others_alone(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = evaluated(tmp_path / "out", [results], metrics="far,cars")
    assert values(evaluation) == {"cars/seen/all": 6}
    assert "note far: not judged: far needs a package that is not installed; pip install it" in said(capsys)


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        ("broken", "AttributeError"),
        ("lost", "ValueError: the ranking 'end' has 'nowhere', no token of a judged frame"),
    ],
)
def test_a_metric_that_fails_is_named_with_its_plugin(
    metric: str, reason: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(results, "-o", tmp_path / "out", metrics=metric) == 2
    printed = said(capsys)
    assert f"plugin '{judging_plugin.__file__}' (a file) fails in the metric {metric}: {reason}" in printed


@pytest.mark.parametrize(
    ("metric", "complaint"),
    [
        ("forgetful", "ValueError: export returns forgotten.json, which it has not written; repair it"),
        ("astray", "/astray.json, which is not in the folder that it was given; repair it"),
    ],
)
def test_a_file_that_a_metric_has_not_written(
    metric: str, complaint: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(results, "-o", tmp_path / "out", metrics=metric) == 2
    printed = said(capsys)
    assert f"(a file) fails in the metric {metric}: ValueError: export returns " in printed
    assert complaint in printed


def test_an_unknown_metric_is_refused(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(results, "-o", tmp_path / "out", metrics="ends,comfort") == 2
    assert "--metrics names 'comfort'; known are " in said(capsys)


def test_submission_files_alone(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(results, "-o", tmp_path / "out", "--format-only", metrics="ends") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".uniad-toolkit", "submission"]
    assert "mean" not in said(capsys)


def test_submission_files_of_no_metric(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(results, "-o", tmp_path / "out", "--format-only", metrics="cars") == 2
    assert "none of the metrics cars writes files for other programs" in said(capsys)


def test_submission_files_are_not_judged(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(results, "-o", tmp_path / "out", "--format-only", "--require", "ends/good>1") == 2
    assert "--format-only judges nothing; leave it out, or --require and --against" in said(capsys)


def test_results_are_refined_before_they_are_judged(results: Path, tmp_path: Path) -> None:
    """As by `run`, if they have not been."""
    evaluation = evaluated(tmp_path / "out", [results], "--perfect")
    assert values(evaluation)["ends/mean@3s"] == 0
    assert evaluation.refinements == ("--perfect",)


def test_refined_results_are_not_refined_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = write_results(tmp_path / "results", refinements=("--perfect",))
    assert evaluated(tmp_path / "out", [results]).refinements == ("--perfect",)
    assert evaluate(results, "-o", tmp_path / "again", "--perfect") == 2
    assert "--perfect has changed these results when they were made; leave it out" in said(capsys)


def test_another_evaluation_is_replaced_with_force(results: Path, tmp_path: Path) -> None:
    evaluated(tmp_path / "out", [results])
    assert evaluate(results, "-o", tmp_path / "out") == 2
    assert evaluate(results, "-o", tmp_path / "out", "--force") == 0
    assert evaluate(results, "-o", results, "--force") == 2


def test_data_without_ground_truth_is_refused(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(results, "-o", tmp_path / "out", data=str(results)) == 2
    assert "a frame folder holds no ground truth; give nuscenes:" in said(capsys)


@pytest.mark.slow
def test_a_bundle_is_run_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As its results would be; they are kept."""
    bundle = write_toy_bundle(tmp_path / "bundle")
    evaluation = evaluated(tmp_path / "out", [bundle.path], "--session", "torch")
    assert (evaluation.bundle, evaluation.session, evaluation.frames) == (bundle.identity, "torch", 6)
    again = evaluated(tmp_path / "again", [tmp_path / "out/results"])
    assert again == evaluation
    assert "frame5: " in said(capsys)
    assert evaluate(bundle.path, tmp_path / "out/results", "-o", tmp_path / "no") == 2
    assert f"{bundle.path} is a bundle; evaluate it alone, or give folders of results" in said(capsys)


@pytest.mark.slow
def test_what_a_bundle_said_outlives_judging_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the evaluation that there is not, under a name that is free."""
    bundle = write_toy_bundle(tmp_path / "bundle")
    (tmp_path / "out-results").mkdir()
    assert evaluate(bundle.path, "-o", tmp_path / "out", "--session", "torch", metrics="broken") == 2
    kept = tmp_path / "out-results-2"
    assert f"repair it or leave it out; what the bundle said is kept; evaluate {kept}, without running" in said(capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "out-results", "out-results-2"]
    assert evaluated(tmp_path / "out", [kept]).frames == 6
