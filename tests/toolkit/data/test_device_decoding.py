"""Pictures that a device decodes reach a session where it wants them, and what goes wrong names its file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.toolkit.data.picture_session import Memory
from tests.toolkit.toy_bundle import CONFIG, toy_frame, write_toy_bundle, write_toy_frames
from toolkit.cli.main import run
from toolkit.data.decoding import decoded_frames
from toolkit.data.device_decoding import DeviceDecoding
from toolkit.data.frame_folder import read_frame_folder, write_frame
from toolkit.data.frames import Frame
from toolkit.engines.gpu.nvjpeg import NvjpegDecoder, OnDevice
from toolkit.errors import InputError

IMAGE = CONFIG.image
SHAPE = (len(IMAGE.cameras), IMAGE.source_height, IMAGE.source_width, 3)


class Inverting:
    """A device whose pixels are OpenCV's inverted, so that they are told from those."""

    def decode(self, files: Sequence[bytes]) -> list[NDArray[np.uint8]]:
        decoded = [cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR) for file in files]
        if any(picture is None for picture in decoded):
            raise RuntimeError("nvjpegDecode failed: 5")
        return [255 - np.asarray(picture, np.uint8)[..., ::-1] for picture in decoded if picture is not None]

    def on_host(self, pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        return np.stack(pictures)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Frame]:
    """Four, with JPEG files."""
    folder = tmp_path_factory.mktemp("frames")
    for number in range(4):
        write_frame(toy_frame(number, "monday"), folder)
    return list(read_frame_folder(folder))


def with_picture(frame: Frame, image: Path) -> Frame:
    camera = IMAGE.cameras[3]
    return replace(frame, cameras={**frame.cameras, camera: replace(frame.cameras[camera], image=image)})


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("in_memory", [False, True])
def test_pictures_come_to_the_host_of_a_session_that_is_there(
    frames: list[Frame], in_memory: bool, threads: int
) -> None:
    memory = (lambda: Memory(SHAPE)) if in_memory else None
    decoded = decoded_frames(frames, IMAGE, memory, threads, DeviceDecoding(Inverting()))
    for expected, actual in zip(decoded_frames(frames, IMAGE), decoded, strict=True):
        assert actual.seconds > 0
        for camera, name in enumerate(IMAGE.cameras):
            pixels = actual.frame.cameras[name].image
            np.testing.assert_array_equal(pixels, 255 - np.asarray(expected.frame.cameras[name].image))
            assert actual.memory is None or np.shares_memory(pixels, actual.memory.array[camera])


@pytest.mark.parametrize("threads", [0, 2])
def test_pictures_stay_on_the_device_of_a_session_that_keeps_them(frames: list[Frame], threads: int) -> None:
    class Never(Inverting):
        def on_host(self, pictures: Any) -> NDArray[np.uint8]:
            raise AssertionError("comes to the host")

    kept: list[Any] = []

    def keep(pictures: Any) -> Memory:
        kept.append(pictures)
        return Memory(SHAPE)

    decoded = list(decoded_frames(frames, IMAGE, None, threads, DeviceDecoding(Never(), keep)))
    assert [each.frame for each in decoded] == frames
    assert [len(pictures) for pictures in kept] == [6] * len(frames)
    assert all(isinstance(each.memory, Memory) for each in decoded)


def test_arrays_need_no_device() -> None:
    class Nothing:
        def decode(self, files: Sequence[bytes]) -> Any:
            raise AssertionError("there are no files")

        on_host = decode

    frame = toy_frame(0, "monday")
    [decoded] = decoded_frames([frame], IMAGE, None, 0, DeviceDecoding(Nothing()))
    assert decoded.frame.cameras[IMAGE.cameras[0]].image is frame.cameras[IMAGE.cameras[0]].image


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("missing", r"no\.jpg: cannot be read"),
        ("another size", r"no\.jpg: found 8x8, 3 channels of uint8; the model takes 64x64"),
        ("no pixels", r"no\.jpg: the device cannot decode it \(RuntimeError: nvjpegDecode failed: 5\); use --decoder"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_in_its_frames_turn(
    frames: list[Frame], tmp_path: Path, content: str, message: str, threads: int
) -> None:
    bad = tmp_path / "no.jpg"
    if content == "another size":
        cv2.imwrite(str(bad), np.zeros((8, 8, 3), np.uint8))
    if content == "no pixels":
        header = bytes([0xFF, 0xC0, 0, 11, 8, 0, 64, 0, 64, 1, 1, 0x11, 0])
        bad.write_bytes(b"\xff\xd8" + header + b"\xff\xda\x00\x02\xff\xd9")
    decoded = decoded_frames(
        [frames[0], with_picture(frames[1], bad)], IMAGE, None, threads, DeviceDecoding(Inverting())
    )
    assert next(decoded).frame.name == frames[0].name
    with pytest.raises(InputError, match=rf"^frame {frames[1].name}: .*{message}"):
        next(decoded)


def torchvision(decode: Any) -> dict[str, ModuleType]:
    """A package that decodes so."""
    package, io = ModuleType("torchvision"), ModuleType("torchvision.io")
    io.ImageReadMode = type("ImageReadMode", (), {"RGB": "RGB"})  # type: ignore[attr-defined]
    io.decode_jpeg = decode  # type: ignore[attr-defined]
    return {"torchvision": package, "torchvision.io": io}


def test_torchvisions_pictures_are_laid_out_as_cameras_are(
    frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Channels last, all of a frame in one tensor; on a session's device they are taken as they are."""

    def decode_jpeg(files: list[torch.Tensor], mode: str) -> list[torch.Tensor]:
        assert mode == "RGB"
        images = (cv2.imdecode(file.numpy(), cv2.IMREAD_COLOR) for file in files)
        return [torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1).contiguous() for image in images]

    for name, module in torchvision(decode_jpeg).items():
        monkeypatch.setitem(sys.modules, name, module)
    decoder = NvjpegDecoder(torch.device("cpu"))
    expected, actual = (
        next(decoded_frames(frames, IMAGE, device=device)).frame for device in (None, DeviceDecoding(decoder))
    )
    for name in IMAGE.cameras:
        np.testing.assert_array_equal(actual.cameras[name].image, expected.cameras[name].image)
    memory = next(decoded_frames(frames, IMAGE, device=DeviceDecoding(decoder, OnDevice))).memory
    assert isinstance(memory, OnDevice)
    assert memory.array.shape == SHAPE
    assert memory.array.dtype == np.uint8
    assert not any(memory.array.strides), "no memory"
    assert memory.tensor().is_contiguous()
    np.testing.assert_array_equal(memory.tensor()[0].numpy(), expected.cameras[IMAGE.cameras[0]].image)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (torchvision(None), "--decoder nvjpeg needs a CUDA GPU and a torch built for it; use --decoder opencv"),
        (
            {"torchvision": None},
            "--decoder nvjpeg needs a torchvision for this torch; pip install 'uniad-toolkit[nvjpeg]'",
        ),
    ],
)
def test_a_machine_without_it_says_so(
    modules: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    write_toy_bundle(tmp_path / "bundle")
    write_toy_frames(tmp_path / "frames")
    options = ["-o", str(tmp_path / "results"), "--session", "torch", "--decoder", "nvjpeg"]
    assert run(["run", str(tmp_path / "bundle"), str(tmp_path / "frames"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("results*"))
