"""Whatever an input is: a command does its work, or ends in one line; in bounds, and nothing else happens."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import pytest

from tests.corpus.case import Malformed, Sample
from tests.corpus.generated import generated
from tests.corpus.generated_onnx import generated_onnx
from tests.corpus.harness import check_error, run_bounded, snapshot, snapshot_without_kept
from tests.corpus.odd_files import odd_files

VARIATIONS = list(chain(generated(), generated_onnx(), odd_files()))
REMARK = re.compile("warning: |Corrupt JPEG data: |Premature end of JPEG file")
"""What may be said before the error; OpenCV's decoder says the latter two, and cannot be kept from it."""


def test_names_are_distinct() -> None:
    assert len({case.name for case in VARIATIONS}) == len(VARIATIONS) >= 800


@pytest.mark.parametrize("case", VARIATIONS, ids=lambda case: case.name)
def test_variation(
    case: Malformed,
    sample: Sample,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    case.make(tmp_path, sample)
    files = snapshot(tmp_path)
    ending = run_bounded(case.command, tmp_path, sample, capfd)
    if ending.status == 0:
        assert all(file in snapshot(tmp_path) for file in files)
        return
    assert ending.status in (1, 2)
    check_error("\n".join(line for line in ending.err.splitlines() if not REMARK.match(line)), case.words)
    assert snapshot_without_kept(tmp_path) == files
