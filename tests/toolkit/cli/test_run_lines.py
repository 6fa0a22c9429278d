"""What `run` says about a frame."""

from __future__ import annotations

import pytest

from toolkit.cli.run import print_record
from toolkit.config.model import TrackingConfig
from toolkit.runtime.run_record import FrameRecord

SIZES = TrackingConfig(track_capacity=1150, agent_capacity=128)


def frame(tracks: int, agents: int) -> FrameRecord:
    return FrameRecord("00003_a", "scene", 12, tracks, agents, "", left_out=False)


def test_what_fits_is_not_mentioned(capsys: pytest.CaptureFixture[str]) -> None:
    print_record(frame(0, 0), SIZES)
    assert capsys.readouterr().out.endswith("00003_a: 12 boxes\n")


def test_what_does_not_fit_is_named_with_the_capacity_and_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    print_record(frame(3, 2), SIZES)
    assert capsys.readouterr().out.endswith(
        "12 boxes, 3 tracks beyond the capacity of 1150 rows (convert --track-capacity), "
        "2 agents beyond the capacity of 128 (convert --agent-capacity)\n"
    )
