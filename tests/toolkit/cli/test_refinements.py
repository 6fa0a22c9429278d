"""Options of `run` that plugins name: results are changed on the host before they are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.toolkit.toy_bundle import write_toy_bundle, write_toy_frames
from toolkit.cli.main import run
from toolkit.runtime.result_reader import open_results
from toolkit.runtime.results import FrameResult
from toolkit.runtime.run_record import RunRecord

MOVER = """
from dataclasses import replace
from toolkit.hookspecs import hookimpl
from toolkit.specs import Refinement, Submodule

def moved(result):
    return replace(result, plan=replace(result.plan, points=result.plan.points + 1))

def doubled(result):
    return replace(result, plan=replace(result.plan, points=result.plan.points * 2))

@hookimpl
def uniad_submodules():
    return (Submodule("mover", ("mover.",), (), (), None, refinements=(
        Refinement("--move-plan", "Move plans by a metre.", moved),
        Refinement("--double-plan", "Double plans.", doubled),
    )),)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bundle`, `frames`, a plugin `mover.py`, and results without any refinement: `plain`."""
    folder = tmp_path_factory.mktemp("refinements")
    write_toy_bundle(folder / "bundle")
    write_toy_frames(folder / "frames")
    (folder / "mover.py").write_text(MOVER)
    results_of(folder, "plain")
    return folder


def results_of(folder: Path, output: str, *options: str) -> list[FrameResult]:
    arguments = (folder / "bundle", folder / "frames", "-o", folder / output, "--plugin", folder / "mover.py")
    session = ("--session", "torch", "--threads", "1", "--no-pictures")
    assert run(["run", *map(str, arguments), *session, *options]) == 0
    return list(open_results(folder / output))


def test_help_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mover.py").write_text(MOVER)
    assert run(["run", "--help", "--plugin", str(tmp_path / "mover.py")]) == 0
    printed = capsys.readouterr().out
    assert "--collision-opt" in printed, "names may be cut off in a narrow window"
    assert "Double plans." in printed


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_results_are_written_as_they_make_them(folder: Path, workers: str) -> None:
    """In the order in which the plugin names them, whatever the user's, in every worker; the run's record says so."""
    output = f"changed by {workers}"
    changed = results_of(folder, output, "--double-plan", "--move-plan", "--workers", workers)
    for one, other in zip(changed, open_results(folder / "plain"), strict=True):
        assert one.plan is not None
        assert other.plan is not None
        np.testing.assert_allclose(one.plan.points, 2 * (other.plan.points + 1), atol=1e-5)
        assert len(one.boxes) == len(other.boxes)
    assert RunRecord.read(folder / output).refinements == ("--move-plan", "--double-plan")
    assert RunRecord.read(folder / "plain").refinements == ()


def test_one_that_nobody_offers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "bundle", "frames", "-o", "out", "--move-plan"]) == 2
    assert "No such option" in capsys.readouterr().err
