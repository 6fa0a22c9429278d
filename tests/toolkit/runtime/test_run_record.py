"""The record that `run` leaves beside the results: it reads back as it was written, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from toolkit.data.stage_clock import Stage, StageClock
from toolkit.errors import InputError
from toolkit.runtime.run_record import RUN_RECORD, FrameRecord, RunRecord

FRAME = FrameRecord("0001", "monday", 3, 0, 1, "", False, {Stage.NETWORK: 0.5, Stage.WRITE: 0.25})
RECORD = RunRecord("d" * 64, "cuda", (FRAME,), "fp16", ("--careful",), "nvjpeg", "training")


def test_it_reads_back(tmp_path: Path) -> None:
    RECORD.write(tmp_path)
    assert RunRecord.read(tmp_path) == RECORD


def test_one_of_an_earlier_version_has_no_refinements_and_opencvs_pictures(tmp_path: Path) -> None:
    RECORD.write(tmp_path)
    path = tmp_path / RUN_RECORD
    path.write_text(
        path.read_text().replace(', "refinements": ["--careful"], "decoder": "nvjpeg", "first_frame": "training"', "")
    )
    assert RunRecord.read(tmp_path) == replace(RECORD, refinements=(), decoder="opencv", first_frame="evaluation")


def test_a_folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no run.jsonl; give a folder that `uniad-toolkit run` wrote"):
        RunRecord.read(tmp_path)


@pytest.mark.parametrize(
    ("line", "change"),
    [
        (0, {"bundle": ""}),
        (0, {"session": 5}),
        (1, {"frame": "../../secret"}),
        (0, {"precision": None}),
        (0, {"refinements": "--careful"}),
        (0, {"refinements": [""]}),
        (1, {"seconds": {"network": -1}}),
        (1, {"seconds": {"network": None}}),
        (1, {"seconds": {"coffee": 1}}),
        (1, {"boxes": "many"}),
        (1, {"boxes": float("inf")}),
        (1, {"seconds": {"network": 10**400}}),
    ],
)
def test_a_damaged_one(line: int, change: dict[str, Any], tmp_path: Path) -> None:
    RECORD.write(tmp_path)
    lines = [json.loads(text) for text in (tmp_path / RUN_RECORD).read_text().splitlines()]
    lines[line] |= change
    (tmp_path / RUN_RECORD).write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InputError, match=r"run.jsonl is damaged: .*; run the frames again"):
        RunRecord.read(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]\n", "\xff", "[" * 100_000])
def test_something_else(text: str, tmp_path: Path) -> None:
    (tmp_path / RUN_RECORD).write_text(text, encoding="latin1")
    with pytest.raises(InputError, match="is damaged"):
        RunRecord.read(tmp_path)


def test_the_clock_leaves_no_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Laps add up, and a new frame starts at zero."""
    times = iter([10.0, 11.0, 11.5, 13.5, 20.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    clock = StageClock[Stage]()
    clock.lap(Stage.LOAD)
    clock.lap(Stage.NETWORK)
    clock.lap(Stage.LOAD)
    assert clock.take() == {Stage.LOAD: 3.0, Stage.NETWORK: 0.5}
    clock.lap(Stage.WRITE)
    assert clock.take() == {Stage.WRITE: 6.5}
