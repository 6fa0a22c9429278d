"""With decoding ahead a frame is prepared while a device runs the one before; what comes out is the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.toolkit.data.picture_session import Memory, PreparingSession
from tests.toolkit.toy_bundle import toy_frame, write_toy_bundle
from toolkit.bundle import Bundle
from toolkit.data.frame_folder import read_frame_folder, write_frame
from toolkit.data.sequence import frame_steps
from toolkit.data.stage_clock import Stage, StageClock
from toolkit.engines.torch import load_network
from toolkit.errors import InputError
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.interpreter import FrameOutputs
from toolkit.runtime.sequence import run_steps
from toolkit.runtime.state_guard import NEXT_ID_LIMIT
from toolkit.runtime.temporal_runner import TemporalRunner

FRAMES = [toy_frame(number, f"scene{number // 3}") for number in range(5)]


class LoggedSession:
    """The torch session; `log` has, in order, what it was asked for. A run that poisons the state is repaired."""

    name = "logged"

    def __init__(self, bundle: Bundle, poisoned: int | None = None) -> None:
        self._session, self._poisoned = PreparingSession(load_network(bundle, PluginManager.load())), poisoned
        self.log: list[str] = []
        self._runs = 0

    def upload(self, array: np.ndarray) -> Any:
        if self.log[-1:] != ["upload"]:
            self.log.append("upload")
        return self._session.upload(array)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.log.append("run")
        outputs = self._session.run(inputs)
        if self._runs == self._poisoned:
            outputs["next_track_id"] = outputs["next_track_id"] * 0 + (NEXT_ID_LIMIT + 1)
        self._runs += 1
        return outputs

    def download(self, tensor: Any) -> np.ndarray:
        if self.log[-1] != "download":
            self.log.append("download")
        return self._session.download(tensor)

    def finite(self, tensors: Iterable[Any]) -> bool:
        return self._session.finite(tensors)


class DeviceSession(LoggedSession):
    """The same as on a device."""

    def new_pictures(self) -> Memory:
        return self._session.new_pictures()

    def upload_frame(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        self.log.append("upload")
        return self._session.upload_frame(arrays)

    def prepare(self, pictures: Any) -> Any:
        return self._session.prepare(pictures)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self._session.zeros(shape, dtype)


class DecodingSession(DeviceSession):
    """On a device that decodes pictures, for which this is the decoder as well."""

    def make_ready(self) -> None:
        self.log.append("ready")

    def decode(self, files: Sequence[bytes]) -> NDArray[np.uint8]:
        self.log.append("decode")
        return np.stack([cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR) for file in files])

    def on_host(self, pictures: Any) -> NDArray[np.uint8]:
        raise AssertionError("they stay on the device")

    def device_pictures(self, pictures: Any) -> Memory:
        memory = self.new_pictures()
        memory.array[:] = pictures
        return memory


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_toy_bundle(tmp_path_factory.mktemp("overlapped") / "bundle")


def outputs_of(bundle: Bundle, session: LoggedSession, decoders: int) -> list[FrameOutputs]:
    return list(run_steps(bundle, session, frame_steps(FRAMES), decoders=decoders))


def assert_same(actual: Sequence[FrameOutputs], expected: Sequence[FrameOutputs]) -> None:
    for ours, theirs in zip(actual, expected, strict=True):
        assert (ours.result.frame, ours.result.repairs) == (theirs.result.frame, theirs.result.repairs)
        for name, array in theirs.tensors.items():
            np.testing.assert_array_equal(ours.tensors[name], array, err_msg=name)


def test_outputs_are_those_of_frames_in_turn(bundle: Bundle) -> None:
    in_turn, overlapped = DeviceSession(bundle), DeviceSession(bundle)
    assert_same(outputs_of(bundle, overlapped, 2), outputs_of(bundle, in_turn, 0))
    assert overlapped.log[:8] == ["upload", "run", "upload", "download", "run", "upload", "download", "run"]


def test_a_device_is_ready_before_it_decodes_ahead(bundle: Bundle, tmp_path: Path) -> None:
    """What it does only then it may not be able to do while it decodes."""
    for frame in FRAMES:
        write_frame(frame, tmp_path)
    frames, logs = list(read_frame_folder(tmp_path)), []
    for decoders in (0, 2):
        session = DecodingSession(bundle)
        steps = run_steps(bundle, session, frame_steps(frames), decoders=decoders, decoder=session)
        assert [step.result.frame for step in steps] == [frame.name for frame in FRAMES]
        logs.append(session.log)
    assert "ready" not in logs[0]  # the first frame is decoded by then, and no other
    assert logs[1][0] == "ready"
    assert logs[1].count("ready") == 1


def test_a_session_that_has_the_host_run_a_frame_gives_it_at_once(bundle: Bundle) -> None:
    session = LoggedSession(bundle)
    steps = run_steps(bundle, session, frame_steps(FRAMES), decoders=2)
    for frame in FRAMES[:3]:
        assert next(steps).result.frame == frame.name
        assert session.log == ["upload", "run", "download"]
        session.log.clear()
    steps.close()


def test_a_scene_that_is_reset_begins_anew(bundle: Bundle) -> None:
    """Though its next frame had been prepared when that was found."""
    expected = outputs_of(bundle, DeviceSession(bundle, poisoned=0), 0)
    assert expected[0].result.repairs.scene_reset
    assert_same(outputs_of(bundle, DeviceSession(bundle, poisoned=0), 2), expected)


def test_what_goes_wrong_comes_after_the_frames_before(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the frame cannot be prepared, or not be run."""
    broken = [*FRAMES[:2], replace(FRAMES[2], cameras={}), FRAMES[3]]
    steps = run_steps(bundle, DeviceSession(bundle), frame_steps(broken), decoders=2)
    assert [next(steps).result.frame for _ in range(2)] == [frame.name for frame in FRAMES[:2]]
    with pytest.raises(InputError, match="camera"):
        next(steps)

    session, launched = DeviceSession(bundle), 0

    def launch(runner: TemporalRunner, fed: dict[str, Any]) -> None:
        nonlocal launched
        launched += 1
        if launched == 3:
            raise InputError("no memory")
        real(runner, fed)

    real = TemporalRunner.launch
    monkeypatch.setattr(TemporalRunner, "launch", launch)
    steps = run_steps(bundle, session, frame_steps(FRAMES), decoders=2)
    assert [next(steps).result.frame for _ in range(2)] == [frame.name for frame in FRAMES[:2]]
    with pytest.raises(InputError, match="no memory"):
        next(steps)


def test_each_frame_has_its_own_seconds(bundle: Bundle) -> None:
    clock = StageClock[Stage]()
    session = DeviceSession(bundle)
    for _ in run_steps(bundle, session, frame_steps(FRAMES), clock=clock, decoders=2):
        seconds = clock.take()
        assert set(seconds) == {Stage.LOAD, Stage.PREPROCESS, Stage.NETWORK}
        assert all(passed >= 0 for passed in seconds.values())
        clock.skip()
