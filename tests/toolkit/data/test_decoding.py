"""Pictures that are decoded ahead are those that are decoded in turn, and so is what goes wrong."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.toolkit.data.picture_session import Memory
from tests.toolkit.toy_bundle import CONFIG, toy_frame
from toolkit.data import decoding
from toolkit.data.decoding import decoded_frames, frames_ahead
from toolkit.data.frame_folder import read_frame_folder, write_frame
from toolkit.data.frames import Frame
from toolkit.data.preprocess import load_image
from toolkit.errors import InputError, inside

IMAGE = CONFIG.image
THREADS = 3
SHAPE = (len(IMAGE.cameras), IMAGE.source_height, IMAGE.source_width, 3)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Frame]:
    """Ten, with JPEG files."""
    folder = tmp_path_factory.mktemp("frames")
    for number in range(10):
        write_frame(toy_frame(number, "monday"), folder)
    return list(read_frame_folder(folder))


def with_bad_picture(frame: Frame) -> Frame:
    camera = IMAGE.cameras[3]
    return replace(frame, cameras={**frame.cameras, camera: replace(frame.cameras[camera], image=Path("no.jpg"))})


@pytest.mark.parametrize("in_memory", [False, True])
def test_pictures_are_those_decoded_in_turn(frames: list[Frame], in_memory: bool) -> None:
    made: list[Memory] = []

    def pictures() -> Memory:
        assert threading.current_thread() is threading.main_thread()
        made.append(Memory(SHAPE))
        return made[-1]

    ahead = decoded_frames(frames, IMAGE, pictures if in_memory else None, THREADS)
    for number, (expected, actual) in enumerate(zip(decoded_frames(frames, IMAGE), ahead, strict=True)):
        assert actual.frame.name == expected.frame.name == frames[number].name
        assert actual.seconds > 0
        for camera, name in enumerate(IMAGE.cameras):
            pixels = actual.frame.cameras[name].image
            np.testing.assert_array_equal(pixels, expected.frame.cameras[name].image)
            assert not in_memory or np.shares_memory(pixels, made[number].array[camera])
        if in_memory:
            assert actual.memory is made[number]
            assert made[number].cameras in ([], list(range(6)))


def test_memory_is_told_of_pictures_that_are_waited_for(frames: list[Frame], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each as it comes; of a frame that is there already a session takes all together."""
    waited_for, begun = threading.Event(), list[Future[Any]]()

    class Pool(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **options: Any) -> Future[Any]:
            begun.append(super().submit(*arguments, **options))
            return begun[-1]

    def decoded(*arguments: Any) -> NDArray[np.uint8]:
        waited_for.wait()
        return load_image(*arguments)

    def inside_first(place: str) -> AbstractContextManager[None]:
        waited_for.set()
        return inside(place)

    monkeypatch.setattr(decoding, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(decoding, "load_image", decoded)
    monkeypatch.setattr(decoding, "inside", inside_first)
    made: list[Memory] = []

    def pictures() -> Memory:
        made.append(Memory(SHAPE))
        return made[-1]

    ahead = decoded_frames(frames[:2], IMAGE, pictures, THREADS)
    next(ahead)
    wait(begun)
    next(ahead)
    assert [memory.cameras for memory in made] == [list(range(6)), []]


def test_few_frames_are_begun_ahead(frames: list[Frame]) -> None:
    taken = itertools.count()
    next(decoded_frames((frame for frame in frames if next(taken) >= 0), IMAGE, threads=THREADS))
    assert next(taken) == 1 + frames_ahead(THREADS, IMAGE) < len(frames)
    assert [frames_ahead(threads, IMAGE) for threads in (1, 6, 8)] == [2, 2, 3]


@pytest.mark.parametrize("threads", [0, THREADS])
def test_a_bad_picture_is_told_in_its_turn(frames: list[Frame], threads: int) -> None:
    """With the frame's name, and after the frames before it."""
    decoded = decoded_frames([*frames[:3], with_bad_picture(frames[3]), *frames[4:]], IMAGE, threads=threads)
    assert [next(decoded).frame.name for _ in range(3)] == [frame.name for frame in frames[:3]]
    with pytest.raises(InputError, match=rf"^frame {frames[3].name}: no\.jpg: cannot be read"):
        next(decoded)


def test_no_thread_is_left(frames: list[Frame]) -> None:
    before = set(threading.enumerate())
    decoded = decoded_frames(frames, IMAGE, threads=THREADS)
    next(decoded)
    assert set(threading.enumerate()) > before
    decoded.close()
    assert set(threading.enumerate()) == before
