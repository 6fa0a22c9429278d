"""Scenes at once by threads: in order, bounded by their number, and ended by what fails."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.toolkit.toy_bundle import toy_frame, write_toy_bundle
from toolkit.batch.at_once import scenes_at_once
from toolkit.batch.finishing import Finishing
from toolkit.batch.scenes import Scene
from toolkit.batch.writer import SceneWriter
from toolkit.cli.main import run
from toolkit.cli.run_job import RunJob, writers_at_once
from toolkit.errors import InputError
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.runtime.run_record import FrameRecord

SCENES = [
    Scene(tuple(toy_frame(3 * scene + number, f"scene{scene}") for number in range(3)), None) for scene in range(5)
]


class Writer:
    """Tells of frames; several go on only together, and one may fail."""

    session = None

    def __init__(self, together: threading.Barrier | None = None, fails: str = "") -> None:
        self._together, self._fails = together, fails
        self.begun: list[str] = []

    def run(self, scenes: Iterable[Scene], finishing: Finishing, decoders: int) -> Generator[FrameRecord]:
        for scene in scenes:
            for frame in scene.frames:
                self.begun.append(frame.name)
                if self._together:
                    self._together.wait(10)
                if frame.name == self._fails:
                    raise InputError(f"frame {frame.name}: is bad")
                yield FrameRecord(frame.name, frame.scene, 0, 0, 0, "", False)


@pytest.fixture
def nowhere() -> Finishing:
    return Finishing(lambda outputs: Future(), behind=0)


def test_frames_come_in_the_order_of_the_scenes_while_several_run(nowhere: Finishing) -> None:
    barrier = threading.Barrier(2)
    writers = [Writer(barrier), Writer(barrier)]
    records = list(scenes_at_once(writers, SCENES[:4], nowhere))  # type: ignore[arg-type]
    assert [record.frame for record in records] == [f"frame{number}" for number in range(12)]
    assert all(len(writer.begun) == 6 for writer in writers)


def test_a_failure_comes_in_its_turn_and_ends_the_others(nowhere: Finishing) -> None:
    writers, seen = [Writer(fails="frame4"), Writer(fails="frame4")], []
    with pytest.raises(InputError, match="frame frame4: is bad"):  # noqa: PT012
        for record in scenes_at_once(writers, SCENES, nowhere):  # type: ignore[arg-type]
            seen.append(record.frame)
    assert seen == [f"frame{number}" for number in range(4)]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scene")]


def test_who_wants_no_more_ends_all(nowhere: Finishing) -> None:
    records = scenes_at_once([Writer(), Writer()], SCENES, nowhere)  # type: ignore[list-item]
    next(records)
    records.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scene")]


def test_a_session_that_runs_one_scene_at_a_time_says_so(tmp_path: Path) -> None:
    class Alone:
        """A session that cannot be shared."""

    plugins, bundle = PluginManager.load(), write_toy_bundle(tmp_path / "bundle")
    writer = SceneWriter(bundle, Alone(), plugins.submodules(), "evaluation", False, tmp_path)  # type: ignore[arg-type]
    job = RunJob(
        bundle.path, "tensorrt", Precision.FP32, "evaluation", pictures=False, folder=tmp_path, plugin_files=(),
        disabled_plugins=(), scenes_at_once=2,
    )  # fmt: skip
    with pytest.raises(InputError, match="--scenes-at-once is of no use with --session tensorrt"):
        writers_at_once(writer, job, 3)


def test_workers_are_another_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["-o", str(tmp_path / "results"), "--scenes-at-once", "2", "--workers", "2"]
    assert run(["run", str(tmp_path / "bundle"), str(tmp_path / "frames"), *options]) == 2
    assert "are two ways for the same" in capsys.readouterr().err
