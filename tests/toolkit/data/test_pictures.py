"""Frames through a session that takes pictures as they are: the same results as with prepared images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.toolkit.data.picture_session import PreparingSession
from tests.toolkit.toy_bundle import CONFIG, toy_frame, write_toy_bundle
from toolkit.benchmarking.measure import benchmark
from toolkit.bundle import Bundle
from toolkit.data.frame_folder import read_frame_folder, write_frame
from toolkit.data.frames import Frame
from toolkit.data.pictures import IMAGE, PICTURES
from toolkit.data.preprocess import read_jpeg
from toolkit.data.sequence import sequence_inputs
from toolkit.engines.session import PictureSession
from toolkit.engines.torch import TorchSession, load_network
from toolkit.errors import InputError
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.results import FrameResult
from toolkit.runtime.sequence import run_sequence
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.specs import Submodule

pytestmark = pytest.mark.thorough

FRAMES = [toy_frame(number, f"scene{number // 2}") for number in range(4)]
"""Two scenes."""


@pytest.fixture(scope="module")
def plugins() -> PluginManager:
    return PluginManager.load()


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_toy_bundle(tmp_path_factory.mktemp("pictures") / "bundle")


@pytest.fixture
def session(toy: Bundle, plugins: PluginManager) -> PreparingSession:
    return PreparingSession(load_network(toy, plugins))


@pytest.fixture
def arrays(session: PreparingSession) -> dict[str, np.ndarray]:
    """The first frame, with its pictures as they are."""
    (_, inputs), *_ = sequence_inputs(FRAMES[:1], CONFIG, pictures=session.new_pictures)
    return inputs


def numbers(results: Iterable[FrameResult]) -> list[object]:
    """What must be equal to the last bit."""
    return [
        (box.track_id, box.score, box.center, box.size) for result in results for box in result.boxes
    ] + [tuple(result.plan.points.ravel()) for result in results if result.plan is not None]  # fmt: skip


@pytest.mark.skipif(not cv2.ipp.useIPP(), reason="this OpenCV resizes with other roundings")
def test_results_are_those_of_prepared_images(toy: Bundle, session: PreparingSession, plugins: PluginManager) -> None:
    submodules: tuple[Submodule, ...] = tuple(plugins.submodules())
    expected = list(run_sequence(toy, TorchSession.of_bundle(toy, plugins), submodules, FRAMES))
    actual = list(run_sequence(toy, session, submodules, FRAMES))
    assert len(numbers(expected)) > len(FRAMES)
    assert numbers(actual) == numbers(expected)
    assert session.log == ["upload_frame", "prepare"] * len(FRAMES)  # not even a new scene uploads its state


def test_pictures_are_decoded_into_the_sessions_memory(session: PreparingSession, tmp_path: Path) -> None:
    """From a JPEG file as from an array; every camera is reported when it is there."""
    write_frame(FRAMES[0], tmp_path)
    (stored,) = read_frame_folder(tmp_path)
    for frame, directly in ((stored, True), (FRAMES[0], False)):
        ((_, inputs),) = sequence_inputs([frame], CONFIG, pictures=session.new_pictures)
        memory = session.memories[-1]
        assert inputs[PICTURES] is memory.array
        assert IMAGE not in inputs
        assert memory.cameras == list(range(6))
        for picture, camera in zip(memory.array, CONFIG.image.cameras, strict=True):
            image = frame.cameras[camera].image
            np.testing.assert_array_equal(picture, read_jpeg(image) if isinstance(image, Path) else image)
            if directly:
                assert isinstance(image, Path)
                place = np.empty_like(picture)
                assert read_jpeg(image, place) is place


def test_a_picture_of_another_size_is_refused(session: PreparingSession, tmp_path: Path) -> None:
    path = tmp_path / "small.jpg"
    cv2.imwrite(str(path), np.zeros((32, 64, 3), np.uint8))
    camera = CONFIG.image.cameras[0]
    for image in (path, np.zeros((32, 64, 3), np.uint8)):
        frame = with_picture(FRAMES[0], camera, image)
        with pytest.raises(InputError, match="the model takes 64x64 RGB of uint8"):
            next(sequence_inputs([frame], CONFIG, pictures=session.new_pictures))


def test_a_missing_camera_is_an_input_error(session: PreparingSession) -> None:
    cameras = dict(FRAMES[0].cameras)
    del cameras["CAM_BACK"]
    with pytest.raises(InputError, match="camera CAM_BACK is missing"):
        next(sequence_inputs([replace(FRAMES[0], cameras=cameras)], CONFIG, pictures=session.new_pictures))


def test_a_prepared_image_is_taken_as_it_is(toy: Bundle, session: PreparingSession) -> None:
    """As `verify` and `replay` have it, even beside pictures."""
    (_, inputs), *_ = sequence_inputs(FRAMES[:1], CONFIG)
    TemporalRunner(toy, session).step(inputs | {PICTURES: np.zeros(1)})
    assert session.log == ["upload_frame"]


def test_pictures_are_of_no_use_to_other_sessions(
    toy: Bundle, plugins: PluginManager, arrays: dict[str, np.ndarray]
) -> None:
    with pytest.raises(InputError, match="input 'image' is missing"):
        TemporalRunner(toy, TorchSession.of_bundle(toy, plugins)).step(arrays)


def test_misshaped_pictures_are_explained(
    toy: Bundle, session: PreparingSession, arrays: dict[str, np.ndarray]
) -> None:
    with pytest.raises(InputError, match=r"'pictures' is uint8\[6, 64, 64\]; it must be uint8\[6, 64, 64, 3\]"):
        TemporalRunner(toy, session).step(arrays | {PICTURES: arrays[PICTURES][..., 0]})


def test_a_benchmark_measures_upload_and_preparation_apart(
    toy: Bundle, session: PreparingSession, plugins: PluginManager
) -> None:
    """The whole upload, pictures included: they begin only then."""
    result = benchmark(toy, session, plugins.submodules(), FRAMES)
    parts = [timing for timing in result.timings if timing.part_of == "network"]
    assert [part.name for part in parts] == [
        "upload", "preprocess on the GPU", "model", "download", "check state",
    ]  # fmt: skip
    assert all(min(part.seconds) > 0 for part in parts)
    assert all(memory.cameras == [] for memory in session.memories[: len(FRAMES)])


def test_only_what_prepares_pictures_is_a_picture_session(
    toy: Bundle, session: PreparingSession, plugins: PluginManager
) -> None:
    assert isinstance(session, PictureSession)
    assert not isinstance(TorchSession.of_bundle(toy, plugins), PictureSession)


def with_picture(frame: Frame, camera: str, image: Path | np.ndarray) -> Frame:
    """The frame with another picture of one camera."""
    return replace(frame, cameras={**frame.cameras, camera: replace(frame.cameras[camera], image=image)})
