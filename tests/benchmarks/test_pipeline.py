"""The benchmark of the loop runs, and the session that it puts in the network's place gives what it recorded."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.made_up import write_bundle
from benchmarks.pipeline import WARM_UP, drive, main
from benchmarks.replayed_session import ReplayedSession, recorded
from benchmarks.run_command import timed_run
from tests.toolkit.toy_bundle import CONFIG, toy_frame, write_toy_bundle, write_toy_frames
from toolkit.engines.torch import TorchSession
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.sequence import run_sequence

pytestmark = pytest.mark.slow


def test_a_replayed_network_gives_the_results_of_the_recorded_one(tmp_path: Path) -> None:
    bundle, plugins = write_toy_bundle(tmp_path / "bundle"), PluginManager.load()
    frames = [toy_frame(number, "monday") for number in range(2)]
    outputs = recorded(bundle, TorchSession.of_bundle(bundle, plugins), frames, 2)
    sessions = (TorchSession.of_bundle(bundle, plugins), ReplayedSession(bundle, outputs, 0.0))
    for expected, actual in zip(
        *(run_sequence(bundle, session, plugins.submodules(), frames) for session in sessions), strict=True
    ):
        assert [box.center for box in actual.boxes] == [box.center for box in expected.boxes]
        assert expected.plan is not None
        assert actual.plan is not None
        np.testing.assert_array_equal(actual.plan.points, expected.plan.points)


def test_a_drive_repeats_frames_under_names_of_their_own() -> None:
    first, second = drive([toy_frame(number, "monday") for number in range(3)], 50)
    names = [frame.name for scene in (first, second) for frame in scene.frames]
    assert (len(first.frames), len(set(names)), second.previous) == (40, 50, first.frames[-1])


def test_it_prints_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_toy_bundle(tmp_path / "bundle")
    write_toy_frames(tmp_path / "frames")
    main(
        tmp_path / "bundle", str(tmp_path / "frames"), session="torch", stub_ms=0.1, frames=WARM_UP + 4, helpers=2
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert printed.count("frames a second") == 2
    assert all(words in printed for words in ("without pictures", "with pictures", "load and decode", "write", "draw"))


def test_the_command_is_timed_by_its_lines_over_a_made_up_bundle(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", CONFIG)
    write_toy_frames(tmp_path / "frames")
    ran = timed_run(tmp_path / "bundle", str(tmp_path / "frames"), ["--session", "torch", "--no-pictures"])
    assert len(ran.lines) == 6
    assert 0 < ran.first_frame < ran.lines[-1] < ran.ended
    with pytest.raises(subprocess.CalledProcessError) as failure:
        timed_run(tmp_path / "missing", str(tmp_path / "frames"), [])
    assert "missing" in failure.value.output
