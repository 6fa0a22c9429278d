"""Commands with `--session cuda` on a network of toy size, each captured as a CUDA graph of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.toolkit.toy_bundle import write_toy_bundle, write_toy_frames
from toolkit.cli.main import run
from toolkit.doctor.check import Status
from toolkit.doctor.gpu_sessions import check_cuda
from toolkit.runtime.run_record import RunRecord

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bundle` and `frames`: three scenes of two frames."""
    folder = tmp_path_factory.mktemp("gpu")
    write_toy_bundle(folder / "bundle")
    write_toy_frames(folder / "frames")
    return folder


def test_doctor_captures_a_compiled_function() -> None:
    assert check_cuda().status is Status.OK


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_benchmark_measures_and_records(precision: str, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    options = ["--session", "cuda", "--precision", precision, "--frames", "5", "--json", str(output)]
    assert run(["benchmark", str(folder / "bundle"), *options]) == 0
    values = json.loads(output.read_text())
    assert (values["session"], values["precision"], values["frames"]) == ("cuda", precision, 5)
    assert values["peak_bytes"]["gpu"] > 0
    stages = {row["stage"]: row for row in values["milliseconds"]}
    assert 0 < stages["model"]["p50"] < stages["whole frame"]["p50"]


def test_workers_share_a_gpu(folder: Path, tmp_path: Path) -> None:
    """Two processes with a session each give the plans of one, but for rounding."""
    frames = [str(folder / name) for name in ("bundle", "frames")]
    for workers in ("1", "2"):
        output = ["-o", str(tmp_path / workers), "--workers", workers, "--no-pictures"]
        assert run(["run", *frames, "--session", "cuda", *output]) == 0
    one, two = (RunRecord.read(tmp_path / workers) for workers in ("1", "2"))
    assert (one.session, one.precision) == (two.session, two.precision) == ("cuda", "fp32")
    assert [(f.frame, f.boxes) for f in one.frames] == [(f.frame, f.boxes) for f in two.frames]
    for frame in one.frames:
        plans = [json.loads((tmp_path / w / f"{frame.frame}.json").read_text())["plan"]["points"] for w in ("1", "2")]
        np.testing.assert_allclose(plans[0], plans[1], rtol=1e-4, atol=1e-4)


def test_torch_on_the_cpu_agrees(folder: Path, tmp_path: Path) -> None:
    """`verify` writes its report, whose first frame keeps the tolerances."""
    output = tmp_path / "report.json"
    options = ["--sessions", "torch,cuda", "--length", "1", "--json", str(output)]
    assert run(["verify", str(folder / "bundle"), *options]) == 0
    [report] = json.loads(output.read_text())
    assert (report["reference"], report["candidate"], report["passed"]) == ("torch", "cuda", True)


def test_half_precision_makes_sense(folder: Path, tmp_path: Path) -> None:
    """By the bounds for reduced precision, over frames with state fed back."""
    output = tmp_path / "report.json"
    options = ["--sessions", "torch,cuda", "--precision", "fp16", "--length", "4", "--json", str(output)]
    assert run(["verify", str(folder / "bundle"), *options]) == 0
    [report] = json.loads(output.read_text())
    assert (report["candidate"], report["passed"]) == ("cuda fp16", True)
