"""Scenes side by side: each gives the same results wherever it runs, and no worker is left behind.

Worker processes take seconds to start, for they import torch.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.toolkit.toy_bundle import toy_frame, write_toy_bundle, write_toy_frames
from toolkit.batch.resumed import FinishedScenes
from toolkit.batch.scenes import Scene, Shard, split_scenes
from toolkit.batch.workers import scene_workers
from toolkit.batch.writer import SceneWriter
from toolkit.bundle import Bundle
from toolkit.cli.main import run
from toolkit.cli.run_job import helpers_by_default, threads_each
from toolkit.data.stage_clock import Stage
from toolkit.engines.torch import TorchSession
from toolkit.errors import CheckFailed, InputError
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.run_record import RUN_RECORD, RunRecord
from toolkit.runtime.sequence import run_sequence

FRAMES = [toy_frame(number, f"scene{number // 2}") for number in range(4)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bundle` and `frames`: three scenes of two frames; `whole`: their results."""
    folder = tmp_path_factory.mktemp("scenes")
    write_toy_bundle(folder / "bundle")
    write_toy_frames(folder / "frames")
    assert run_toy(folder, "whole") == 0
    return folder


def run_toy(folder: Path, output: str, *options: str) -> int:
    """The exit status of `run`, with one thread, since torch's last digits depend on their number."""
    arguments = (folder / "bundle", folder / "frames", "-o", folder / output, "--session", "torch", "--threads", 1)
    return run(["run", *map(str, arguments), *options])


def contents(folder: Path) -> dict[str, bytes]:
    """All results by file name, but the record of times."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != RUN_RECORD}


def frames_of(folder: Path) -> list[str]:
    return [record.frame for record in RunRecord.read(folder).frames]


class TestScenes:
    def test_know_the_frame_before_them(self) -> None:
        first, second = split_scenes(FRAMES)
        assert (first.frames, first.previous) == ((FRAMES[0], FRAMES[1]), None)
        assert (second.frames, second.previous) == ((FRAMES[2], FRAMES[3]), FRAMES[1])

    def test_of_no_frames(self) -> None:
        assert list(split_scenes([])) == []

    @pytest.mark.slow
    def test_give_the_same_results_alone_as_in_a_sequence(self, folder: Path) -> None:
        """Ego motion refers to the scene before; ids start at 0."""
        bundle, plugins = Bundle.read(folder / "bundle"), PluginManager.load()
        session, submodules = TorchSession.of_bundle(bundle, plugins), plugins.submodules()
        _, second = split_scenes(FRAMES)
        whole = list(run_sequence(bundle, session, submodules, FRAMES))[2:]
        alone = list(run_sequence(bundle, session, submodules, second.frames, previous=second.previous))
        for one, other in zip(whole, alone, strict=True):
            assert [(box.track_id, box.center) for box in one.boxes] == [(b.track_id, b.center) for b in other.boxes]
            assert one.plan is not None
            assert other.plan is not None
            np.testing.assert_array_equal(one.plan.points, other.plan.points)
        assert {box.track_id for box in whole[0].boxes} <= set(range(20))
        (without, *_) = run_sequence(bundle, session, submodules, second.frames)
        assert [box.center for box in without.boxes] != [box.center for box in whole[0].boxes]


class TestShards:
    def test_share_out_all_scenes(self) -> None:
        scenes = [Scene((frame,), None) for frame in FRAMES[:3]]
        parts = [Shard(index, 2).of(scenes) for index in range(2)]
        assert parts == [[scenes[0], scenes[2]], [scenes[1]]]
        assert Shard.parse("3/4").of(scenes) == []

    @pytest.mark.parametrize("text", ["", "1", "4/4", "-1/4", "0/0", "a/b", "1/2/3", "1/²", "0/9999999"])
    def test_are_written_as_index_and_count(self, text: str) -> None:
        with pytest.raises(InputError, match="is not INDEX/COUNT with INDEX from 0 to COUNT - 1, such as 0/4"):
            Shard.parse(text)

    @pytest.mark.slow
    def test_give_together_what_one_run_gives(self, folder: Path) -> None:
        assert [run_toy(folder, f"shard{i}", "--shard", f"{i}/2") for i in range(2)] == [0, 0]
        assert frames_of(folder / "shard1") == ["frame2", "frame3"]
        assert contents(folder / "shard0") | contents(folder / "shard1") == contents(folder / "whole")


@pytest.mark.slow
def test_two_workers_give_what_one_gives(folder: Path) -> None:
    """To the last byte, pictures included; the record has the frames in the same order."""
    assert run_toy(folder, "two", "--workers", "2") == 0
    assert contents(folder / "two") == contents(folder / "whole")
    assert len(contents(folder / "two")) == 3 * 6 + 1
    assert frames_of(folder / "two") == frames_of(folder / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 5])
def test_scenes_at_once_give_what_one_gives(count: int, folder: Path) -> None:
    """To the last byte, pictures included; the record has the frames in the same order."""
    output = f"at once {count}"
    assert run_toy(folder, output, "--scenes-at-once", str(count), "--helpers", "1") == 0
    assert contents(folder / output) == contents(folder / "whole")
    assert frames_of(folder / output) == frames_of(folder / "whole")


@pytest.mark.slow
def test_helpers_give_what_none_give(folder: Path) -> None:
    """To the last byte, pictures included, and across scenes."""
    assert run_toy(folder, "helped", "--helpers", "2") == 0
    assert contents(folder / "helped") == contents(folder / "whole")
    assert frames_of(folder / "helped") == frames_of(folder / "whole")
    for one, other in zip(*(RunRecord.read(folder / name).frames for name in ("helped", "whole")), strict=True):
        assert one.seconds.keys() == other.seconds.keys() == set(Stage)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.parametrize("helpers", ["0", "2"])
def test_a_bad_picture_ends_the_run_in_its_turn(
    folder: Path, tmp_path: Path, helpers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its frame's name, after all frames before it, which are kept beside the output; no process is left."""
    shutil.copytree(folder / "frames", tmp_path / "frames")
    picture = next((tmp_path / "frames").rglob("*frame3*.jpg"))
    picture.write_bytes(picture.read_bytes()[:-100])
    shutil.copytree(folder / "bundle", tmp_path / "bundle")
    assert run_toy(tmp_path, "results", "--helpers", helpers) == 2
    said = capsys.readouterr()
    assert f"frame frame3: {picture}: the JPEG file is cut off" in said.err.replace("\n", "")
    assert all(f"frame{number}: " in said.out + said.err for number in range(3))
    assert "frame4" not in said.out + said.err
    assert not (tmp_path / "results").exists()
    assert f"what was finished before the error is kept, 3 frames: {tmp_path / 'results-partial'}" in said.out
    assert frames_of(tmp_path / "results-partial") == ["frame0", "frame1", "frame2"]
    finished = {name: data for name, data in contents(folder / "whole").items() if name[:6] < "frame3"}
    assert contents(tmp_path / "results-partial") == finished
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_run_goes_on_where_another_failed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole scenes are taken, also what came out of order; the others run, and all is what one run gives."""
    shutil.copytree(folder / "frames", tmp_path / "frames")
    shutil.copytree(folder / "bundle", tmp_path / "bundle")
    picture = next((tmp_path / "frames").rglob("*frame3*.jpg"))
    whole = picture.read_bytes()
    picture.write_bytes(b"")
    assert run_toy(tmp_path, "results") == 2
    picture.write_bytes(whole)
    next((tmp_path / "frames").rglob("*frame0*.jpg")).write_bytes(b"")  # which nobody reads any more
    partial = str(tmp_path / "results-partial")
    assert run_toy(tmp_path, "results", "--resume", partial) == 0
    assert contents(tmp_path / "results") == contents(folder / "whole")
    assert frames_of(tmp_path / "results") == frames_of(folder / "whole")
    assert run_toy(tmp_path, "again", "--resume", str(tmp_path / "results")) == 0
    assert contents(tmp_path / "again") == contents(folder / "whole")
    capsys.readouterr()
    assert run_toy(tmp_path, "other", "--resume", partial, "--first-frame", "training") == 2
    assert f"--resume {partial}: its first frame is evaluation, not training; run as then, or anew" in (
        capsys.readouterr().err.replace("\n", "")
    )
    assert run_toy(tmp_path, "results-partial", "--resume", partial, "--force") == 2


@pytest.mark.slow
def test_only_scenes_that_can_be_read_are_finished(folder: Path, tmp_path: Path) -> None:
    """A link is as good as its file; what is there at first and then not is an error, and no gap in the results."""
    results, record = tmp_path / "results", RunRecord.read(folder / "whole")
    scenes = list(split_scenes([toy_frame(number, f"scene{number // 2}") for number in range(6)]))
    shutil.copytree(folder / "whole", results)
    (results / "frame0.json").rename(results / "moved")
    (results / "frame0.json").symlink_to("moved")
    (results / "frame2.npz").unlink()
    (results / "frame5.json").write_bytes((results / "frame5.json").read_bytes()[:100])
    finished = FinishedScenes.read(results, record, scenes, pictures=True)
    assert [finished.has(scene) for scene in scenes] == [True, False, False]
    (taken := tmp_path / "taken").mkdir()
    assert finished.take(scenes[0], taken) == list(record.frames[:2])
    assert {path.name: path.read_bytes() for path in taken.iterdir()} == {
        name: data for name, data in contents(folder / "whole").items() if name.startswith(("frame0", "frame1"))
    }
    assert not any(path.is_symlink() for path in taken.iterdir())
    (results / "frame1.npz").unlink()
    with pytest.raises(InputError, match=r"--resume .*: frame1\.npz was removed meanwhile"):
        finished.take(scenes[0], tmp_path)


@pytest.mark.slow
def test_a_bad_first_frame_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    """Nor does it touch what an earlier run kept; with several workers only whole scenes were finished."""
    shutil.copytree(folder / "frames", tmp_path / "frames")
    shutil.copytree(folder / "bundle", tmp_path / "bundle")
    next((tmp_path / "frames").rglob("*frame3*.jpg")).write_bytes(b"")
    kept = []
    for name, options, frames in (("results-partial", ("--workers", "2"), 2), ("results-partial-2", (), 3)):
        assert run_toy(tmp_path, "results", "--no-pictures", *options) == 2
        kept.append(name)
        assert sorted(path.name for path in tmp_path.glob("results*")) == kept
        assert frames_of(tmp_path / name) == [f"frame{number}" for number in range(frames)]
    next((tmp_path / "frames").rglob("*frame0*.jpg")).write_bytes(b"")
    assert run_toy(tmp_path, "results", "--no-pictures") == 2
    assert sorted(path.name for path in tmp_path.glob("results*")) == kept


@pytest.mark.parametrize("options", [("--workers", "2"), ("--cluster", "local")])
def test_helpers_help_one_process(folder: Path, options: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_toy(folder, "refused", "--helpers", "2", *options) == 2
    assert "--helpers 2 is of no use with --workers or --cluster" in capsys.readouterr().err


def test_two_cores_have_no_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor have few frames."""
    expected = {1: 0, 2: 0, 3: 1, 4: 2, 16: 8, 64: 8}
    for cores, helpers in expected.items():
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert [helpers_by_default(frames) for frames in (7, 80, 6000)] == [0, helpers, helpers]


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert [threads_each(workers) for workers in (1, 2, 3, 16)] == [None, 4, 2, 1]


@dataclass(frozen=True)
class Trouble:
    """A job that cannot be done."""

    kind: str

    def open(self) -> SceneWriter:
        if self.kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "slow":
            time.sleep(600)
        raise InputError("the bundle is damaged")


SCENES: Sequence[Scene] = list(split_scenes(FRAMES))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("killed", CheckFailed, "a worker process was ended from outside, perhaps for want of memory; run with fewer"),
        ("damaged", InputError, "the bundle is damaged"),
    ],
)
def test_failure_of_a_worker_is_one_error(kind: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message), scene_workers(Trouble(kind), SCENES, 1) as records:
        list(records)
    assert multiprocessing.active_children() == []


def test_workers_do_not_see_ctrl_c() -> None:
    """From their start on, when an interrupt would only print a traceback: the main process ends them."""

    def interrupted() -> None:
        with scene_workers(Trouble("slow"), SCENES, 1):
            [worker] = multiprocessing.active_children()
            status = Path(f"/proc/{worker.pid}/status").read_text()
            [blocked] = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk:")]
            assert blocked >> signal.SIGINT - 1 & 1
            assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_interruption_ends_the_workers() -> None:
    """At once, whatever they do."""
    interrupted = ExitStack()
    interrupted.enter_context(scene_workers(Trouble("slow"), SCENES, 1))
    assert len(multiprocessing.active_children()) == 1
    with pytest.raises(KeyboardInterrupt), interrupted:
        raise KeyboardInterrupt
    assert multiprocessing.active_children() == []
