"""Scenes on several GPUs, by processes that see one each: here they see none, and run the torch session."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.toolkit.toy_bundle import toy_frame, write_toy_bundle, write_toy_frames
from toolkit.batch.gpus import VISIBLE, gpu_records, visible_gpus
from toolkit.batch.scenes import Scene, split_scenes
from toolkit.cli.main import run
from toolkit.cli.run_job import RunJob
from toolkit.data.frame_folder import read_frame_folder
from toolkit.errors import CheckFailed, InputError
from toolkit.precision import Precision
from toolkit.runtime.run_record import RUN_RECORD, FrameRecord

SCENES: Sequence[Scene] = list(split_scenes(toy_frame(number, f"scene{number // 2}") for number in range(10)))


@dataclass(frozen=True)
class Telling:
    """A job that tells which GPU it saw, and may come to an end."""

    bad: str = ""
    killed: str = ""

    @contextmanager
    def records(self, scenes: Sequence[Scene]) -> Iterator[Iterator[FrameRecord]]:
        yield self._records(scenes)

    def _records(self, scenes: Sequence[Scene]) -> Iterator[FrameRecord]:
        for scene in scenes:
            for frame in scene.frames:
                if frame.name == self.bad:
                    raise InputError(f"frame {frame.name}: is bad")
                if frame.name == self.killed:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield FrameRecord(frame.name, frame.scene, 0, 0, 0, os.environ[VISIBLE], False)


@pytest.mark.slow
def test_every_process_sees_its_gpu_and_frames_come_in_order() -> None:
    with gpu_records(Telling(), SCENES, ["3", "GPU-a"]) as records:
        told = [(record.frame, record.repairs) for record in records]
    assert told == [(f"frame{number}", ("3", "GPU-a")[number // 2 % 2]) for number in range(10)]
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "error", "message"),
    [
        (Telling(bad="frame5"), InputError, "frame frame5: is bad"),
        (Telling(killed="frame5"), CheckFailed, "a process of --gpus was ended from outside"),
    ],
)
def test_what_ends_one_comes_in_its_turn_and_ends_all(job: Telling, error: type[Exception], message: str) -> None:
    told = []
    with pytest.raises(error, match=message), gpu_records(job, SCENES, ["0", "1"]) as records:  # noqa: PT012
        for record in records:
            told.append(record.frame)
    assert told == [f"frame{number}" for number in range(5)]
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_results_are_those_of_one_process(tmp_path: Path) -> None:
    """To the last byte; each with two scenes at once."""
    write_toy_bundle(tmp_path / "bundle")
    write_toy_frames(tmp_path / "frames")
    whole = ["run", str(tmp_path / "bundle"), str(tmp_path / "frames"), "-o", str(tmp_path / "whole")]
    assert run([*whole, "--session", "torch", "--threads", "1", "--no-pictures"]) == 0
    (tmp_path / "two").mkdir()
    job = RunJob(
        tmp_path / "bundle", "torch", Precision.FP32, "evaluation", pictures=False, folder=tmp_path / "two",
        plugin_files=(), disabled_plugins=(), threads=1, helpers=0, scenes_at_once=2,
    )  # fmt: skip
    scenes = list(split_scenes(read_frame_folder(tmp_path / "frames")))
    with gpu_records(job, scenes, ["0", "1"]) as records:
        assert [record.frame for record in records] == [f"frame{number}" for number in range(6)]
    expected, actual = (
        {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".npz")}
        for folder in (tmp_path / "whole", tmp_path / "two")
    )
    assert actual == {name: data for name, data in expected.items() if name != RUN_RECORD}


def test_gpus_are_those_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    assert visible_gpus(2, 4) == ["0", "1"]
    monkeypatch.setenv(VISIBLE, "5,GPU-a,2")
    assert visible_gpus(2, 3) == ["5", "GPU-a"]
    with pytest.raises(InputError, match="--gpus 4: torch sees 3"):
        visible_gpus(4, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--session", "torch"), "--gpus 2 is of no use with --session torch, which runs on none"),
        (("--session", "cuda", "--workers", "2"), "--gpus 2 and --workers or --cluster are two ways for the same"),
    ],
)
def test_what_gpus_do_not_go_with(
    options: Sequence[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["-o", str(tmp_path / "results"), "--gpus", "2", *options]
    assert run(["run", str(tmp_path / "bundle"), str(tmp_path / "frames"), *output]) == 2
    assert message in capsys.readouterr().err
