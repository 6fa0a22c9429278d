"""Every malformed input ends in one line that says what is wrong, where, and what to do; and nothing else happens."""

from __future__ import annotations

import re
import shlex
import time
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.corpus.anchors import malformed_anchors
from tests.corpus.bundles import malformed_bundles
from tests.corpus.case import MARK, Malformed, Sample
from tests.corpus.checkpoints import malformed_checkpoints
from tests.corpus.configs import malformed_configs
from tests.corpus.frames import malformed_frames
from tests.corpus.onnx_models import malformed_onnx
from tests.corpus.replays import malformed_replays
from tests.corpus.usage import malformed_usage
from tests.docs.test_troubleshooting import MESSAGES
from toolkit.cli.main import run

EXPLAINED = re.compile("|".join(".*".join(map(re.escape, message.split("…"))) for message in MESSAGES))
"""What the page on troubleshooting explains; it abbreviates by …"""
MAX_SECONDS = 5
"""Of processor time, so that a busy machine does not matter."""
MAX_BYTES = 2**29
CORPUS = list(
    chain(
        malformed_checkpoints(),
        malformed_anchors(),
        malformed_bundles(),
        malformed_onnx(),
        malformed_frames(),
        malformed_replays(),
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
    reset_peak_memory()
    memory, started = memory_in_use("VmRSS"), time.process_time()
    status = run(shlex.split(case.command.replace("{sample}", str(sample.folder))))
    seconds, grown = time.process_time() - started, memory_in_use("VmHWM") - memory
    out, err = capfd.readouterr()
    assert status == 2, out + err
    assert "Traceback" not in out + err
    check_error(err, case.words)
    assert snapshot(tmp_path) == files
    assert not (tmp_path / MARK).exists()
    assert seconds < MAX_SECONDS
    assert grown < MAX_BYTES


def test_classes_of_a_billion_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Lists that hold each other twice, thirty times over, are not spelt out."""
    classes: list[Any] = ["car"]
    for _ in range(30):
        classes = [classes, classes]
    torch.save({"state_dict": {"w": torch.ones(1)}, "meta": {"CLASSES": classes, 7: "lucky"}}, tmp_path / "odd.pth")
    started = time.process_time()
    assert run(["inspect", str(tmp_path / "odd.pth"), "--json", str(tmp_path / "report.json")]) == 0
    assert time.process_time() - started < MAX_SECONDS


def check_error(text: str, words: tuple[str, ...]) -> None:
    """One line that begins with ``error:``, holds the words and is documented; only misfits of weights are a table."""
    first, *rest = text.splitlines()
    assert first.startswith("error: "), text
    assert not rest or "the checkpoint does not fit the model" in first, text
    for word in words:
        assert word in text, text
    assert EXPLAINED.search(first), f"not in docs/troubleshooting.md: {text}"


def snapshot(folder: Path) -> list[tuple[Path, int, int]]:
    """Every file below a folder with its size and time of change."""
    return sorted((path, s.st_size, s.st_mtime_ns) for path in folder.rglob("*") for s in [path.lstat()])


def reset_peak_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def memory_in_use(field: str) -> int:
    """Bytes of this process's memory: now ("VmRSS") or at its peak ("VmHWM")."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:")]
    return 1024 * int(line.split()[1])
