"""What is wrong with a benchmark's input is one line, and nothing needs a GPU to say what a benchmark does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import decoders, node_times, pipeline, replayed_precisions, small_ops
from benchmarks.command import run_benchmark


@pytest.mark.parametrize(
    ("main", "options"),
    [
        (decoders.main, ["--session", "torch"]),
        (pipeline.main, ["--session", "torch"]),
        (node_times.main, []),
        (replayed_precisions.main, []),
    ],
)
def test_a_folder_that_is_no_bundle(
    main: Callable[..., None],
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", str(tmp_path), str(tmp_path), *options])
    with pytest.raises(SystemExit) as ended:
        run_benchmark(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path} is not a bundle: it has no bundle.json; make one with `uniad-toolkit convert`\n"
    )


def test_help_needs_no_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", "--help"])
    with pytest.raises(SystemExit) as ended:
        run_benchmark(small_ops.main)
    assert ended.value.code == 0
    assert "Print two tables." in capsys.readouterr().out
