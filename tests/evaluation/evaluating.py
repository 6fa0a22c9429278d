"""`uniad-toolkit evaluate` on the scenes of `judging_plugin`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.evaluation import judging_plugin
from toolkit.cli.main import run
from toolkit.evaluation.evaluation_file import Evaluation, read_evaluation


def evaluate(*words: str | Path, data: str = "hand:val", metrics: str = "ends,cars") -> int:
    """The exit status."""
    options = ["--no-pictures", "--plugin", judging_plugin.__file__]
    return run(["evaluate", *options, "--data", data, "--metrics", metrics, *map(str, words)])


def evaluated(folder: Path, results: Sequence[Path], *words: str | Path, **options: str) -> Evaluation:
    assert evaluate(*results, "-o", folder, *words, **options) == 0
    return read_evaluation(folder)


def values(evaluation: Evaluation) -> Mapping[str, float | None]:
    return {name: figure.value for name, figure in evaluation.figures.items()}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, on one line."""
    printed = capsys.readouterr()
    return " ".join((printed.out + printed.err).split())
