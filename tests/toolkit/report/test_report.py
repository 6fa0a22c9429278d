"""`uniad-toolkit report`: what the page says, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path

import onnx
import pytest

from tests.corpus.case import change_json
from tests.toolkit.report.report_case import HOSTILE, ReportCase, make_report_case, write_judged
from toolkit.bundle import Bundle, EngineRecord
from toolkit.errors import InputError
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.run_record import RUN_RECORD, RunRecord


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, converted: Path, tiny_plugins: PluginManager) -> ReportCase:
    """With everything that a report can tell."""
    return make_report_case(tmp_path_factory.mktemp("report"), converted, tiny_plugins)


@pytest.fixture(scope="module")
def page(case: ReportCase) -> str:
    return case.write()


def words(page: str) -> str:
    """The text of a page without tags."""
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def test_the_verdict_comes_first(page: str) -> None:
    """With what was checked, the figure and its tolerance; digests come after pictures."""
    text = words(page)
    assert text.index("PASS Every check holds") < text.index("Warnings submodule") < text.index("Pictures 0000:")
    assert re.search(r"passed conversion : sessions torch, onnxruntime, \d+ frames with state fed back: worst", text)
    assert re.search(r"passed onnxruntime, fp32 : equal decisions in 2 frames against torch: worst .* tolerance", text)
    assert "passed files : all 2 as the conversion wrote them" in text
    assert page.index("data:image/jpeg") < page.index("sha256")


def test_conversion(page: str, case: ReportCase) -> None:
    text = words(page)
    for fact in ("checkpoint tiny.pth", case.bundle.provenance["checkpoint_sha256"], "torch", "custom ops Inverse"):
        assert fact in text
    assert re.search(r"odometry tiny 9 0\.0 \d+ moved, driven", text)
    assert re.search(r"planner tiny 6 0\.0 \d+ plan", text)
    for digest in case.bundle.sha256.values():
        assert digest in text


def test_graph_passes(page: str) -> None:
    assert "rewritten.onnx" in page
    assert "fold-constants 4 20 16 1" in words(page)


def test_agreement(page: str) -> None:
    text = words(page)
    assert "sessions torch, onnxruntime" in text
    assert "onnxruntime against torch, 2 frames, fp32 agrees" in text
    assert "planner plan" in text


def test_latency(page: str) -> None:
    """Percentiles of 200 to 700 ms in steps of a hundred, in a table and in a plot."""
    assert "network 450.0 650.0 695.0 450.0 700.0" in words(page)
    assert "<svg " in page
    assert "var(--stage-3)" in page


def test_pictures_lie_inside(page: str) -> None:
    """A few of the six frames, from the first to the last."""
    assert re.findall(r"Results of frame (\d+)", page) == ["0000", "0002", "0003", "0005"]
    assert len(re.findall(r'src="data:image/jpeg;base64,', page)) == 5
    assert 'width="1280" height="720"' in page


def test_evaluation(page: str) -> None:
    """What is of one quantity shares a row; plots are drawn, and the worst frames that have a picture are shown."""
    text = words(page)
    assert "session onnxruntime, fp32, --smooth decoder opencv data nuscenes:data?version=v1.0-mini frames 8" in text
    assert "L2 1s 0.5, 3s 1.5 m by hand mean over samples" in text
    assert "hits – % by hand" in text
    assert "annotations: missing in 1 frame, first second" in text
    assert len(re.findall(r'src="data:image/png;base64,', page)) == 2
    assert "plan error: 2.5 m, the worst frame: b" in text
    assert "evaluation: results: missing in 2 frames, first first" in text


def test_the_file_of_an_evaluation_is_enough(case: ReportCase, tmp_path: Path) -> None:
    """It holds the plots; there are no pictures then."""
    shutil.copy(case.folder / "evaluation/metrics.json", tmp_path)
    page = case.write(evaluation=tmp_path / "metrics.json")
    assert page.count('src="data:image/png;base64,') == 2
    assert "the worst frame: b" not in page


def test_warnings(page: str) -> None:
    text = words(page)
    assert "submodule wipers was left out of the conversion: the checkpoint has no entries for it" in text
    assert "1 of 6 frames forgot tracks beyond the capacity of tracks, first 0005" in text
    assert "1 of 6 frames needed a repair of the state, first 0005 (scene reset)" in text


def test_nothing_is_trusted_or_loaded(page: str) -> None:
    """Texts of checkpoints and frames are shown as they are; no address leads out of the page."""
    assert "<script" not in page
    assert HOSTILE in unescape(page)
    assert not re.search(r"""(src|href)="(?!data:|#)""", page)
    assert not re.search(r"""@import|url\((?!['"]?#)""", page)


def test_the_bundle_alone_is_enough(case: ReportCase) -> None:
    text = words(case.write(results=None, verification=None, evaluation=None, rewritten=None))
    assert text.count("No run was given") == 2
    for command in (
        "run bundle FRAMES -o results",
        "verify bundle --frames FRAMES --json",
        "build bundle --target",
        "evaluate bundle --data nuscenes:… -o evaluation",
    ):
        assert f"uniad-toolkit {command}" in text
    assert "report … --rewritten" in text


def test_engines(case: ReportCase, tmp_path: Path) -> None:
    """One whose files are gone is listed all the same, with a warning."""
    shutil.copytree(case.folder / "bundle", tmp_path / "bundle")
    engine = EngineRecord("rtx.engine", "e" * 64, "tensorrt-rtx", "1.7", ("8.6", "8.9"), "fp16")
    Bundle.read(tmp_path / "bundle").with_engine(engine).write()
    text = words(case.write(bundle=tmp_path / "bundle"))
    assert "rtx.engine tensorrt-rtx 1.7 fp16 8.6, 8.9" in text
    assert f"engine {tmp_path}/bundle/rtx.engine cannot be read" in text


def test_altered_files(case: ReportCase, tmp_path: Path) -> None:
    shutil.copytree(case.folder / "bundle", tmp_path / "bundle")
    model = onnx.load(tmp_path / "bundle/model.onnx", load_external_data=False)
    model.doc_string = "edited"
    (tmp_path / "bundle/model.onnx").write_bytes(model.SerializeToString())
    text = words(case.write(bundle=tmp_path / "bundle"))
    assert "model.onnx is not the file that the conversion wrote" in text
    assert "FAIL Not every check holds" in text
    assert "failed files : model.onnx altered since" in text


def test_a_failed_verification(case: ReportCase, tmp_path: Path) -> None:
    [report] = json.loads((case.folder / "verify.json").read_text())
    report["failure"] = "onnxruntime diverges"
    report["comparisons"][0]["errors"] |= {"norm": None, "largest": None, "cosine": 0.0}
    (tmp_path / "verify.json").write_text(json.dumps([report]))
    page = case.write(verification=tmp_path / "verify.json")
    assert "fails onnxruntime diverges" in words(page)
    assert "failed onnxruntime, fp32 : onnxruntime diverges" in words(page)
    assert "verification failed: onnxruntime diverges" in words(page)
    assert '<tr class="failed">' in page


def test_a_verification_against_a_dump(case: ReportCase, tmp_path: Path) -> None:
    """What the training's environment says of itself, and what differs there."""
    [report] = json.loads((case.folder / "verify.json").read_text())
    comparison = report["comparisons"][0] | {"tensor": "image", "submodule": "preparation"}
    comparison["errors"] = comparison["errors"] | {"norm": None}
    report["dump"] = {
        "file": "<dump>.npz",
        "facts": {"torch": "1.9.1", "tree": HOSTILE},
        "settings": ["score_thresh is 0.2 in the dump"],
        "notes": ["the dump was made in TF32"],
        "inputs": [{"comparison": comparison, "reason": "in the order of the cameras"}],
    }
    (tmp_path / "verify.json").write_text(json.dumps([report]))
    page = case.write(verification=tmp_path / "verify.json")
    text = words(page)
    assert "Against the training environment" in text
    assert "differs score_thresh is 0.2 in the dump" in text
    assert "in the order of the cameras" in text
    assert "made in TF32" in text
    assert HOSTILE not in page


def test_a_verification_of_reduced_precision(case: ReportCase, tmp_path: Path) -> None:
    """Errors beyond the tolerances of FP32 are no failures."""
    [report] = json.loads((case.folder / "verify.json").read_text())
    report["precision"] = "fp16"
    report["comparisons"][0]["errors"]["norm"] = 0.5
    (tmp_path / "verify.json").write_text(json.dumps([report]))
    page = case.write(verification=tmp_path / "verify.json")
    assert "frames, fp16; bounds of tensors are those of fp32" in words(page)
    assert '<tr class="failed">' not in page


def another_bundle(case: ReportCase, folder: Path) -> dict[str, object]:
    record = RunRecord.read(case.folder / "results")
    replace(record, bundle="0" * 64).write(folder)
    return {"results": folder}


def no_record(case: ReportCase, folder: Path) -> dict[str, object]:
    return {"results": folder / "nowhere"}


def broken_picture(case: ReportCase, folder: Path, content: str = "no picture") -> dict[str, object]:
    shutil.copy(case.folder / "results" / RUN_RECORD, folder)
    (folder / "0000.png").write_text(content)
    return {"results": folder}


def empty_picture(case: ReportCase, folder: Path) -> dict[str, object]:
    return broken_picture(case, folder, "")


def verification_of_another_bundle(case: ReportCase, folder: Path) -> dict[str, object]:
    [report] = json.loads((case.folder / "verify.json").read_text())
    (folder / "verify.json").write_text(json.dumps([report | {"bundle": "0" * 64}]))
    return {"verification": folder / "verify.json"}


def no_verification(case: ReportCase, folder: Path) -> dict[str, object]:
    return {"verification": folder / "nowhere.json"}


def other_json(case: ReportCase, folder: Path) -> dict[str, object]:
    (folder / "other.json").write_text('[{"bundle": 3, "comparisons": 5}]')
    return {"verification": folder / "other.json"}


def verification_without_bounds(case: ReportCase, folder: Path) -> dict[str, object]:
    [report] = json.loads((case.folder / "verify.json").read_text())
    report["comparisons"][0]["tolerance"] = {"norm": None}
    (folder / "other.json").write_text(json.dumps([report]))
    return {"verification": folder / "other.json"}


def verification_with_enormous_numbers(case: ReportCase, folder: Path) -> dict[str, object]:
    [report] = json.loads((case.folder / "verify.json").read_text())
    report["comparisons"][0]["errors"]["norm"] = 10**400
    (folder / "other.json").write_text(json.dumps([report]))
    return {"verification": folder / "other.json"}


def no_reports(case: ReportCase, folder: Path) -> dict[str, object]:
    (folder / "other.json").write_text("[]")
    return {"verification": folder / "other.json"}


def evaluation_of_another_bundle(case: ReportCase, folder: Path) -> dict[str, object]:
    write_judged(folder / "evaluation", replace(case.bundle, sha256={}))
    return {"evaluation": folder / "evaluation"}


def no_evaluation(case: ReportCase, folder: Path) -> dict[str, object]:
    return {"evaluation": folder}


def broken_worst_frame(case: ReportCase, folder: Path) -> dict[str, object]:
    shutil.copytree(case.folder / "evaluation", folder / "evaluation")
    (folder / "evaluation/worst/planning-error_1_b.png").write_text("no picture")
    return {"evaluation": folder / "evaluation"}


def worst_frame_elsewhere(case: ReportCase, folder: Path) -> dict[str, object]:
    shutil.copytree(case.folder / "evaluation", folder / "evaluation")
    change_json(folder / "evaluation/metrics.json", ("metrics", 0, "worst", 0, "frames", 0, "token"), "/../../b")
    return {"evaluation": folder / "evaluation"}


def model_of_another_bundle(case: ReportCase, folder: Path) -> dict[str, object]:
    model = onnx.load(case.folder / "rewritten.onnx", load_external_data=False)
    onnx.helper.set_model_props(model, {"checkpoint_sha256": "0" * 64})
    (folder / "other.onnx").write_bytes(model.SerializeToString())
    return {"rewritten": [folder / "other.onnx"]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (another_bundle, "holds results of another bundle than .*; run that, or leave them out"),
        (no_record, "nowhere holds no run.jsonl; give a folder that `uniad-toolkit run` wrote"),
        (empty_picture, r"0000\.png is no picture; run the frames again"),
        (broken_picture, r"0000\.png is no picture; run the frames again"),
        (verification_of_another_bundle, "verify.json is about another bundle than .*; verify that, or leave it out"),
        (no_verification, r"cannot read .*nowhere\.json: No such file or directory"),
        (other_json, "is no report of `verify --json`: .*; verify again"),
        (verification_without_bounds, "is no report of `verify --json`: .*; verify again"),
        (verification_with_enormous_numbers, "is no report of `verify --json`: .*; verify again"),
        (no_reports, "holds no report; verify again"),
        (evaluation_of_another_bundle, "evaluation is about another bundle than .*; evaluate that, or leave it out"),
        (no_evaluation, r"cannot read .*metrics\.json: No such file"),
        (broken_worst_frame, r"planning-error_1_b\.png is no picture; evaluate again"),
        (worst_frame_elsewhere, r"worst\[0\]\.frames\[0\]: expected what can be part of a file's name"),
        (model_of_another_bundle, r"other\.onnx was not rewritten from the model of .*; rewrite that, or leave it out"),
    ],
)
def test_bad_input(
    case: ReportCase, make: Callable[[ReportCase, Path], dict[str, object]], message: str, tmp_path: Path
) -> None:
    """Named in one line; nothing is written."""
    output, inputs = tmp_path / "report.html", tmp_path / "inputs"
    inputs.mkdir()
    with pytest.raises(InputError, match=message):
        case.write(output=output, **make(case, inputs))
    assert not output.exists()
