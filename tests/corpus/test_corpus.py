"""Every malformed input ends in one line that says what is wrong, where, and what to do; and nothing else happens."""

from __future__ import annotations

import time
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.corpus.anchors import malformed_anchors
from tests.corpus.bundles import malformed_bundles
from tests.corpus.case import Malformed, Sample
from tests.corpus.checkpoints import malformed_checkpoints
from tests.corpus.configs import malformed_configs
from tests.corpus.dumps import malformed_dumps
from tests.corpus.frames import malformed_frames
from tests.corpus.harness import MAX_SECONDS, check_error, run_bounded, snapshot, snapshot_without_kept
from tests.corpus.onnx_models import malformed_onnx
from tests.corpus.replays import malformed_replays
from tests.corpus.usage import malformed_usage
from toolkit.cli.main import run

CORPUS = list(
    chain(
        malformed_checkpoints(),
        malformed_anchors(),
        malformed_bundles(),
        malformed_onnx(),
        malformed_frames(),
        malformed_replays(),
        malformed_dumps(),
        malformed_configs(),
        malformed_usage(),
    )
)


def test_names_are_distinct() -> None:
    assert len({case.name for case in CORPUS}) == len(CORPUS) >= 200


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_malformed_input(
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
    assert ending.status == 2, ending
    check_error(ending.err, case.words)
    assert snapshot_without_kept(tmp_path) == files


def test_classes_of_a_billion_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Lists that hold each other twice, thirty times over, are not spelt out."""
    classes: list[Any] = ["car"]
    for _ in range(30):
        classes = [classes, classes]
    torch.save({"state_dict": {"w": torch.ones(1)}, "meta": {"CLASSES": classes, 7: "lucky"}}, tmp_path / "odd.pth")
    started = time.process_time()
    assert run(["inspect", str(tmp_path / "odd.pth"), "--json", str(tmp_path / "report.json")]) == 0
    assert time.process_time() - started < MAX_SECONDS
