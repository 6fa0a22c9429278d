"""Scenes at once by one thread: a frame of each in turn, told of in order, ended by what fails, the same results."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.toolkit.batch.test_at_once import SCENES
from tests.toolkit.data.picture_session import PreparingSession
from tests.toolkit.toy_bundle import toy_frame, write_toy_bundle
from toolkit.batch.at_once import scenes_at_once
from toolkit.batch.finishing import Finisher, Finishing, at_once
from toolkit.batch.in_turns import scenes_in_turns
from toolkit.batch.scenes import Scene, split_scenes
from toolkit.batch.writer import BegunFrame, SceneWriter
from toolkit.engines.torch import load_network
from toolkit.errors import InputError
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.run_record import FrameRecord

NOWHERE = Finishing(lambda outputs: Future(), behind=3)


class Lane:
    """Begins frames, which are finished when somebody waits for them; `order` has those of all lanes."""

    def __init__(self, order: list[str], fails: str = "") -> None:
        self._order, self._fails = order, fails
        self.closed = False

    def begin(self, scenes: Iterable[Scene], finishing: Finishing, decoders: int) -> Generator[BegunFrame]:
        try:
            for scene in scenes:
                for frame in scene.frames:
                    if frame.name == self._fails:
                        raise InputError(f"frame {frame.name}: is bad")
                    self._order.append(frame.name)
                    done: Future[FrameRecord] = Future()
                    done.set_result(FrameRecord(frame.name, frame.scene, 0, 0, 0, "", False))
                    yield BegunFrame({}, done)
        finally:
            self.closed = True


def test_frames_of_scenes_take_turns_and_come_in_order() -> None:
    order: list[str] = []
    lanes = [Lane(order), Lane(order)]
    records = list(scenes_in_turns(lanes, SCENES, NOWHERE))  # type: ignore[arg-type]
    assert [record.frame for record in records] == [f"frame{number}" for number in range(15)]
    assert order[:6] == ["frame0", "frame3", "frame1", "frame4", "frame2", "frame5"]


def test_a_failure_comes_in_its_turn_and_ends_the_others() -> None:
    order: list[str] = []
    lanes, seen = [Lane(order, "frame4"), Lane(order, "frame4")], []
    with pytest.raises(InputError, match="frame frame4: is bad"):  # noqa: PT012
        for record in scenes_in_turns(lanes, SCENES, NOWHERE):  # type: ignore[arg-type]
            seen.append(record.frame)
    assert seen == [f"frame{number}" for number in range(4)]
    assert all(lane.closed for lane in lanes)


def test_who_wants_no_more_ends_all() -> None:
    lanes = [Lane([]), Lane([])]
    records = scenes_in_turns(lanes, SCENES, NOWHERE)  # type: ignore[arg-type]
    assert [next(records).frame for _ in range(2)] == ["frame0", "frame1"]
    records.close()
    assert all(lane.closed for lane in lanes)


def test_few_frames_wait_to_be_finished() -> None:
    """As many as there may be behind, of all scenes together."""
    unfinished: list[BegunFrame] = []
    most = 0

    class Slow(BegunFrame):
        """Is finished by whoever waits for it."""

        def wait(self) -> None:
            unfinished.remove(self)
            self.finished.set_result(FrameRecord("frame", "scene", 0, 0, 0, "", False))

        def result(self) -> FrameRecord:
            if not self.done():
                self.wait()
            return self.finished.result()

    class Slowly(Lane):
        """Begins such frames."""

        def begin(self, scenes: Iterable[Scene], finishing: Finishing, decoders: int) -> Generator[BegunFrame]:
            nonlocal most
            for _ in super().begin(scenes, finishing, decoders):
                frame = Slow({}, Future())
                unfinished.append(frame)
                most = max(most, len(unfinished))
                yield frame

    assert len(list(scenes_in_turns([Slowly([]), Slowly([])], SCENES, NOWHERE))) == 15  # type: ignore[list-item]
    assert most == NOWHERE.behind + 1
    assert not unfinished


@pytest.mark.slow
@pytest.mark.parametrize("decoders", [2, 0])
def test_sessions_on_a_device_give_what_one_gives(decoders: int, tmp_path: Path) -> None:
    """To the byte; by threads of the scenes' own only if each has to decode its pictures."""
    plugins, bundle = PluginManager.load(), write_toy_bundle(tmp_path / "bundle")
    scenes = list(split_scenes([toy_frame(number, f"scene{number // 3}") for number in range(7)]))
    network = load_network(bundle, plugins)

    def written(name: str, sessions: int) -> dict[str, bytes]:
        folder = tmp_path / name
        folder.mkdir()
        writers = [
            SceneWriter(bundle, PreparingSession(network), plugins.submodules(), "evaluation", False, folder)
            for _ in range(sessions)
        ]
        finishing = at_once(Finisher(folder, pictures=False), writers[0].means())
        if sessions == 1:
            records = list(writers[0].run(scenes, finishing, decoders))
        else:
            records = []
            for record in scenes_at_once(writers, scenes, finishing, decoders):
                records.append(record)
                own = [thread for thread in threading.enumerate() if thread.name.startswith("scene")]
                assert len(own) == (0 if decoders else sessions)
        assert [record.frame for record in records] == [frame.name for scene in scenes for frame in scene.frames]
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    assert written("several", 2) == written("one", 1)
