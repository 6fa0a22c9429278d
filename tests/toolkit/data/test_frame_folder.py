"""The frame folder: what is written can be read, and every fault is named with its file, field and remedy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.config.model import CAMERAS, ImageConfig
from toolkit.data.frame_folder import read_frame_folder, write_frame
from toolkit.data.frames import CameraView, CanReading, Command, Frame, Pose
from toolkit.data.preprocess import camera_image, read_jpeg
from toolkit.errors import InputError

IDENTITY = Pose(np.array([1.0, 0, 0, 0]), np.zeros(3))
INTRINSICS = np.array([[1266.0, 0, 816], [0, 1266, 491], [0, 0, 1]])
TURNED = Pose(np.array([-math.cos(0.3), 0, 0, -math.sin(0.3)]), np.array([411.3, 1180.9, 0.1]))


def make_frame(name: str, scene: str = "monday", timestamp: float = 0.0) -> Frame:
    image = np.full((6, 8, 3), (200, 100, 50), np.uint8)
    return Frame(
        name=name,
        scene=scene,
        timestamp=timestamp,
        cameras={camera: CameraView(image, INTRINSICS, TURNED) for camera in CAMERAS},
        lidar2ego=IDENTITY,
        ego2global=TURNED,
        command=Command.LEFT,
        can=CanReading(velocity=np.array([7.5, 0, 0])),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two frames of one scene, half a second apart, with an absolute clock."""
    for i in range(2):
        write_frame(make_frame(f"{i:04d}", timestamp=1532402927.5 + i / 2), tmp_path)
    return tmp_path


@pytest.fixture
def edit(folder: Path) -> Callable[..., None]:
    """A function that replaces one field, given by its keys, of the second frame; the value ... removes it."""

    def apply(*keys: str, value: Any) -> None:
        path = folder / "0001.json"
        values = json.loads(path.read_text())
        inner = values
        for key in keys[:-1]:
            inner = inner[key]
        if value is ...:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
        path.write_text(json.dumps(values))

    return apply


def test_a_written_frame_reads_back(folder: Path) -> None:
    frame = read_frame_folder(folder)[1]
    assert (frame.name, frame.scene, frame.command) == ("0001", "monday", Command.LEFT)
    np.testing.assert_array_equal(frame.ego2global.quaternion, TURNED.quaternion)
    np.testing.assert_array_equal(frame.ego2global.translation, TURNED.translation)
    np.testing.assert_array_equal(frame.can.velocity, [7.5, 0, 0])
    np.testing.assert_array_equal(frame.can.acceleration, 0)
    view = frame.cameras["CAM_BACK"]
    assert isinstance(view.image, Path)
    np.testing.assert_array_equal(view.intrinsics, INTRINSICS)
    np.testing.assert_allclose(read_jpeg(view.image)[3, 4], (200, 100, 50), atol=3)


def test_jpeg_files_are_copied_unchanged(folder: Path, tmp_path: Path) -> None:
    frame = read_frame_folder(folder)[0]
    write_frame(frame, tmp_path / "copy")
    copied = read_frame_folder(tmp_path / "copy")[0].cameras["CAM_FRONT"].image
    original = frame.cameras["CAM_FRONT"].image
    assert isinstance(copied, Path)
    assert isinstance(original, Path)
    assert copied != original
    assert copied.read_bytes() == original.read_bytes()


def test_time_starts_with_each_scene(folder: Path) -> None:
    write_frame(make_frame("0002", scene="tuesday", timestamp=50.0), folder)
    write_frame(make_frame("0003", scene="tuesday", timestamp=50.5), folder)
    assert [frame.timestamp for frame in read_frame_folder(folder)] == [0.0, 0.5, 0.0, 0.5]


def test_rotation_may_be_a_matrix_and_command_a_number(folder: Path, edit: Callable[..., None]) -> None:
    edit("ego2global", "rotation", value=TURNED.rotation.round(4).tolist())
    edit("command", value=0)
    edit("can_bus", value=...)
    frame = read_frame_folder(folder)[1]
    np.testing.assert_allclose(frame.ego2global.rotation, TURNED.rotation, atol=1e-4)
    assert frame.command is Command.RIGHT
    np.testing.assert_array_equal(frame.can.velocity, 0)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("scene",), ..., r"0001\.json: scene: is missing; give all of scene, timestamp"),
        (("scene",), 7, r"0001\.json: scene: expected a non-empty string, found 7"),
        (("timestamp",), "now", r"timestamp: expected a finite number of seconds, found 'now'"),
        (("timestamp",), 1532402927647951, r"timestamp: .* divide by 1e6 if it counts microseconds"),
        (("timestamp",), 1532402927.5, r"0001\.json: timestamp: .* is not later than .* of 0000\.json"),
        (("command",), "up", r'command: expected "right", "left", "straight" or 0, 1, 2 in this order, found \'up\''),
        (("command",), True, r"command: expected .* found True"),
        (("canbus",), {}, r"canbus: is unknown; known here are scene, .*, can_bus"),
        (("can_bus",), [0] * 18, r"can_bus: expected an object with named fields, found \[0, 0"),
        (("can_bus", "velocity"), [1, 2], r"can_bus\.velocity: expected 3 numbers, found \[1, 2\]"),
        (("lidar2ego",), None, r"lidar2ego: expected an object with named fields, found None"),
        (("ego2global", "translation"), [math.nan, 0, 0], r"ego2global\.translation: holds a value that is not finite"),
        (("ego2global", "rotation"), [1, 1, 0, 0], r"ego2global\.rotation: the quaternion .* has norm 1\.414"),
        (("ego2global", "rotation"), [[2, 0, 0], [0, 1, 0], [0, 0, 1]], r"rotation: the matrix is not orthonormal"),
        (("ego2global", "rotation"), [[-1, 0, 0], [0, 1, 0], [0, 0, 1]], r"rotation: the matrix is a reflection"),
        (("ego2global", "rotation"), [[1, 0], [0]], r"rotation: expected 3 x 3 numbers, found \[\[1, 0\], \[0\]\]"),
        (("cameras", "CAM_BACK_LEFT"), ..., r"0001\.json: cameras\.CAM_BACK_LEFT: is missing; give all of CAM_FRONT,"),
        (("cameras", "CAM_BACK", "image"), "x.jpg", r"cameras\.CAM_BACK\.image: .*x\.jpg does not exist; give a path"),
        (("cameras", "CAM_BACK", "intrinsics"), [[1, 0], [0, 1]], r"CAM_BACK\.intrinsics: expected 3 x 3 numbers"),
        (("cameras", "CAM_BACK", "intrinsics"), np.eye(3)[::-1].tolist(), r"intrinsics: is no camera matrix; give"),
        (("cameras", "CAM_BACK", "sensor2lidar", "rotation"), ..., r"CAM_BACK\.sensor2lidar\.rotation: is missing"),
    ],
)
def test_a_fault_is_named_with_file_field_and_remedy(
    folder: Path, edit: Callable[..., None], keys: tuple[str, ...], value: Any, message: str
) -> None:
    edit(*keys, value=value)
    with pytest.raises(InputError, match=message):
        read_frame_folder(folder)


def test_a_scene_must_not_be_interrupted(folder: Path) -> None:
    write_frame(make_frame("0002", scene="tuesday"), folder)
    write_frame(make_frame("0003", timestamp=1532402930), folder)
    with pytest.raises(InputError, match=r"0003\.json: scene: 'monday' appears again after other scenes"):
        read_frame_folder(folder)


def test_faulty_folders(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"empty: holds no frame \(\*\.json\)"):
        read_frame_folder(empty)
    with pytest.raises(InputError, match="absent: is not a folder"):
        read_frame_folder(tmp_path / "absent")
    (folder / "0001.json").write_text('{"scene": ')
    with pytest.raises(InputError, match=r"0001\.json is not valid JSON.*line 1"):
        read_frame_folder(folder)
    (folder / "0001.json").write_text("[]")
    with pytest.raises(InputError, match=r"0001\.json: expected an object with named fields, found \[\]"):
        read_frame_folder(folder)


def test_faulty_images(folder: Path) -> None:
    image = read_frame_folder(folder)[0].cameras["CAM_FRONT"].image
    assert isinstance(image, Path)
    with pytest.raises(InputError, match=r"CAM_FRONT\.jpg: found 8x6, .*; the model takes 1600x900"):
        camera_image(image, ImageConfig())
    data = image.read_bytes()
    image.write_bytes(data[:-20])
    with pytest.raises(InputError, match=r"CAM_FRONT\.jpg: the JPEG file is cut off"):
        read_jpeg(image)
    image.write_bytes(data[:2] + bytes(100) + b"\xff\xd9")
    with pytest.raises(InputError, match=r"CAM_FRONT\.jpg: the JPEG file is corrupt"):
        read_jpeg(image)
    image.write_bytes(b"GIF89a")
    with pytest.raises(InputError, match=r"CAM_FRONT\.jpg: is not a JPEG file; convert"):
        read_jpeg(image)
    image.unlink()
    with pytest.raises(InputError, match=r"CAM_FRONT\.jpg: cannot be read \(No such file"):
        read_jpeg(image)
