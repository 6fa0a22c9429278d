"""`warm` makes ahead what a session keeps; here with the CPU's form of the GPU session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.toolkit.toy_bundle import write_toy_bundle
from toolkit.cli.main import run
from toolkit.engines.gpu import kept

EMULATED = ("--plugin", "benchmarks/emulated_session.py", "--session", "emulated")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the bundle is, and where sessions keep what they make."""
    monkeypatch.setenv(kept.FOLDER_VARIABLE, str(tmp_path / "kept"))
    write_toy_bundle(tmp_path / "bundle", without=("occupancy", "map_segmentation", "motion", "planning"))
    return tmp_path


def warm(folder: Path, *options: str) -> int:
    return run(["warm", str(folder / "bundle"), *options])


@pytest.mark.slow
def test_it_says_where_it_wrote_what(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second time there is nothing to make."""
    assert warm(folder, *EMULATED, "--precision", "fp16") == 0
    (entry,) = (folder / "kept" / "networks").iterdir()
    said = capsys.readouterr()
    assert f": {entry}" in said.out
    assert "wrote 1 files; " in said.out
    assert "load the emulated session" in said.out
    assert said.err == ""
    assert warm(folder, *EMULATED, "--precision", "fp16") == 0
    assert f"note  {entry} had it all already: 1 files, " in capsys.readouterr().out


def test_a_session_that_keeps_nothing_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert warm(folder, "--session", "onnxruntime") == 2
    error = "error: session 'onnxruntime' keeps nothing from one start to the next; use --session cuda\n"
    assert capsys.readouterr().err == error


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_without_a_gpu_it_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert warm(folder) == 2
    assert "needs a CUDA GPU" in capsys.readouterr().err


def test_nothing_can_be_kept_where_others_may_write(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "kept" / "networks").mkdir(parents=True)
    (folder / "kept" / "networks").chmod(0o777)
    assert warm(folder, *EMULATED) == 2
    assert "networks is open to other users; remove it" in capsys.readouterr().err


def test_it_fails_if_nothing_was_kept(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object) -> None:
        raise ValueError("no way to write it")

    monkeypatch.setattr(kept, "write_parts", unable)
    assert warm(folder, *EMULATED) == 1
    error = capsys.readouterr().err
    assert "warning: the rewritten network is not kept: no way to write it" in error
    assert "is empty: nothing was kept; the warning above tells why" in error


def test_its_help_names_the_sessions(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["warm", "--help"]) == 0
    help_text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "What runs the network: onnxruntime, onnxruntime-cuda, torch, cuda, tensorrt." in help_text
    assert "Example: uniad-toolkit warm bundle --session cuda --precision fp16" in help_text
