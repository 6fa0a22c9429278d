"""Frames of nuScenes are the same tensors from every source, and those that the reference feeds."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from nuscenes.nuscenes import NuScenes

from tests.nuscenes.reference import evaluation_inputs
from tests.nuscenes.tables import CONFIG, DRIVES, IMAGE, SOURCES, VERSION, token
from toolkit.cli.main import run
from toolkit.config.model import CAMERAS, CanBusRotation
from toolkit.data.ego_motion import warn_of_other_rotation
from toolkit.data.frames import Command, Frame
from toolkit.data.nuscenes.dataroot import read_dataroot
from toolkit.data.preprocess import frame_inputs, lidar_to_global
from toolkit.data.sequence import sequence_inputs
from toolkit.data.sources import open_frames
from toolkit.errors import InputError

Inputs = list[dict[str, NDArray[Any]]]
OFFICIAL = {
    "lidar2img": "img_metas_lidar2img",
    "can_bus": "img_metas_can_bus",
    "l2g_rotation": "l2g_r_mat",
    "l2g_translation": "l2g_t",
}


def inputs_at(address: str, rotation: CanBusRotation) -> Inputs:
    frames = open_frames(address, IMAGE, SOURCES, warn=lambda _: None)
    return [inputs for _, inputs in sequence_inputs(frames, replace(CONFIG, can_bus_rotation=rotation))]


@pytest.fixture(scope="module", params=list(CanBusRotation))
def rotation(request: pytest.FixtureRequest) -> CanBusRotation:
    """The setting of the model, which every source obeys."""
    return CanBusRotation(request.param)


@pytest.fixture(scope="module")
def expected(dataroot: Path, rotation: CanBusRotation) -> Inputs:
    """The tensors of the dataroot."""
    return inputs_at(f"nuscenes:{dataroot}", rotation)


def assert_identical(actual: Inputs, expected: Inputs) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            assert one[name].tobytes() == other[name].tobytes(), name


def test_a_dataroot_gives_what_the_reference_feeds(dataroot: Path, rotation: CanBusRotation, expected: Inputs) -> None:
    """Recomputed from the tables in another way: homogeneous matrices of the devkit."""
    reference = evaluation_inputs(NuScenes(VERSION, str(dataroot), verbose=False), rotation)
    for actual, wanted in zip(expected, reference, strict=True):
        for name, values in wanted.items():
            np.testing.assert_allclose(actual[name], values, rtol=2e-6, atol=2e-5, err_msg=name)


def test_an_info_file_gives_identical_tensors(
    dataroot: Path, infos: Path, rotation: CanBusRotation, expected: Inputs
) -> None:
    assert_identical(inputs_at(f"infos:{infos}?dataroot={dataroot}", rotation), expected)


@pytest.mark.parametrize(
    "prefix", ["D:\\data\\nuscenes\\samples/", "D:\\data\\nuscenes\\samples\\", "./data/nuscenes/samples/"]
)
def test_an_info_file_may_be_made_on_windows_and_a_bare_list(
    dataroot: Path, infos: Path, rotation: CanBusRotation, expected: Inputs, tmp_path: Path, prefix: str
) -> None:
    """Their paths have backslashes, at least up to where nuScenes' tables go on."""
    frames = pickle.loads(infos.read_bytes())["infos"]
    for info in frames:
        for camera in info["cams"].values():
            inside = camera["data_path"].partition("samples/")[2]
            camera["data_path"] = prefix + inside.replace("/", prefix[-1])
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(frames))
    assert_identical(inputs_at(f"infos:{tmp_path / 'bare.pkl'}?dataroot={dataroot}", rotation), expected)


def test_the_can_bus_may_lie_beside_the_dataroot(
    dataroot: Path, rotation: CanBusRotation, expected: Inputs, tmp_path: Path
) -> None:
    copied = shutil.copytree(dataroot, tmp_path / "nuscenes")
    (copied / "can_bus").rename(tmp_path / "can_bus")
    assert_identical(inputs_at(f"nuscenes:{copied}", rotation), expected)


def test_a_prepared_folder_gives_identical_tensors(
    dataroot: Path, rotation: CanBusRotation, expected: Inputs, tmp_path: Path
) -> None:
    """It holds poses: whatever model is run on it feeds them in its own form."""
    arguments = ["prepare", "--dataroot", str(dataroot), "--version", VERSION, "-o", str(tmp_path / "frames")]
    assert run(arguments) == 0
    assert_identical(inputs_at(str(tmp_path / "frames"), rotation), expected)


def test_images_are_copied_byte_for_byte(dataroot: Path, tmp_path: Path) -> None:
    split = ["--split", "mini_val", "-o", str(tmp_path / "frames")]
    assert run(["prepare", "--dataroot", str(dataroot), *split]) == 0
    frames = read_dataroot(dataroot, split="mini_val")
    assert len(list((tmp_path / "frames/images").iterdir())) == 6 * len(frames)
    for frame in frames:
        for camera, view in frame.cameras.items():
            assert isinstance(view.image, Path)
            copy = tmp_path / f"frames/images/{frame.name}_{camera}.jpg"
            assert copy.read_bytes() == view.image.read_bytes()


def test_scenes_follow_in_the_order_of_time(dataroot: Path) -> None:
    """Not of the tables: ego motion is a difference across scenes too."""
    frames = read_dataroot(dataroot, warn=lambda _: None)
    assert [frame.scene for frame in frames] == ["scene-0061"] * 4 + ["scene-0103"] * 4
    assert frames[5].name == f"00005_{token('scene-0103', 'sample', 1)}"
    assert frames[4].timestamp == 0.0
    assert 0.4 < frames[5].timestamp < 0.6


def test_the_command_is_where_the_ego_will_drive(dataroot: Path) -> None:
    """Six key frames ahead, or as many as are left: within half a second every turn is straight."""
    left, right, straight = Command.LEFT, Command.RIGHT, Command.STRAIGHT
    frames = read_dataroot(dataroot, warn=lambda _: None)
    assert [frame.command for frame in frames] == [left, left, straight, straight, right, *[straight] * 3]
    given = read_dataroot(dataroot, command=Command.RIGHT, warn=lambda _: None)
    assert {frame.command for frame in given} == {right}


def test_ego_motion_at_the_start_of_a_scene(dataroot: Path) -> None:
    """As in the reference's evaluation, which never resets the differences, or in its training, which does."""
    first, before, after = (read_dataroot(dataroot, warn=lambda _: None)[i] for i in (0, 3, 4))
    evaluated = frame_inputs(after, before, CONFIG)["can_bus"]
    np.testing.assert_allclose(evaluated[:2], after.ego2global.translation[:2] - before.ego2global.translation[:2])
    np.testing.assert_allclose(frame_inputs(first, None, CONFIG)["can_bus"][:2], DRIVES[1].position, atol=0.2)
    trained = frame_inputs(after, before, CONFIG, "training")["can_bus"]
    np.testing.assert_array_equal(trained[[0, 1, 2, 17]], 0)
    np.testing.assert_array_equal(trained[3:17], evaluated[3:17])


def test_a_heading_that_passes_360_degrees_is_not_wrapped(expected: Inputs) -> None:
    """As in the reference: from 340 to 6 degrees is a change of -334."""
    turns = [float(inputs["can_bus"][17]) for inputs in expected[1:4]]
    assert -340 < turns[0] < -330
    assert all(20 < turn < 30 for turn in turns[1:])


def test_readings_are_those_after_the_sample(dataroot: Path, expected: Inputs) -> None:
    """The scene's bus begins after its first sample and ends before its last."""
    readings = np.array([inputs["can_bus"][7:16] for inputs in expected])
    np.testing.assert_array_equal(readings[:4], 0)
    assert (readings[4:] != 0).all()


def write_trt_input(folder: Path, frames: list[Frame], inputs: Inputs) -> None:
    """What the deployment project's `process_metadata.py` writes; its clock starts with the first frame of all."""
    for number, (frame, values) in enumerate(zip(frames, inputs, strict=True)):
        tensors: dict[str, Any] = {official: values[name] for name, official in OFFICIAL.items()}
        tensors |= {
            "timestamp": frame.timestamp + 1000 * (frame.scene != frames[0].scene),
            "command": float(frame.command),
            "img_metas_scene_token": [ord(character) for character in token(frame.scene)],
        }
        for name, values_of_it in tensors.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            np.ravel(values_of_it).astype(np.float32).tofile(folder / name / f"{number}.bin")
    lines = [
        "".join(f"data/nuscenes/./data/nuscenes/{picture(frame, camera)};" for camera in CAMERAS) + "\n"
        for frame in frames
    ]
    (folder / "info.txt").write_text("".join(lines))


def picture(frame: Frame, camera: str) -> str:
    image = frame.cameras[camera].image
    assert isinstance(image, Path)
    return "/".join(image.parts[-3:])


@pytest.fixture
def trt_input(dataroot: Path, expected: Inputs, tmp_path: Path) -> Path:
    write_trt_input(tmp_path / "uniad_trt_input", read_dataroot(dataroot, warn=lambda _: None), expected)
    return tmp_path / "uniad_trt_input"


@pytest.mark.parametrize("model", CanBusRotation)
def test_a_trt_input_folder_gives_its_tensors(
    dataroot: Path, trt_input: Path, expected: Inputs, model: CanBusRotation
) -> None:
    """Whatever the model's setting."""
    actual = inputs_at(f"trt-input:{trt_input}?dataroot={dataroot}", model)
    for one, other in zip(actual, expected, strict=True):
        for name in ("image", "command", "use_previous", *OFFICIAL):
            assert one[name].dtype == other[name].dtype
            assert one[name].tobytes() == other[name].tobytes(), name
        np.testing.assert_allclose(one["timestamp"], other["timestamp"], atol=1e-4)  # float32 at 1000 s


def test_a_trt_input_folder_of_another_setting_is_a_warning(
    dataroot: Path, trt_input: Path, rotation: CanBusRotation
) -> None:
    """Once for all frames, and none where it fits or where frames bring no such tensor."""
    frames = list(open_frames(f"trt-input:{trt_input}?dataroot={dataroot}", IMAGE, SOURCES))
    warnings: list[str] = []
    for model in CanBusRotation:
        warn_of_other_rotation(frames, model, warnings.append)
        warn_of_other_rotation(read_dataroot(dataroot, warn=lambda _: None), model, warnings.append)
    (other,) = (one for one in CanBusRotation if one is not rotation)
    assert warnings == [
        f"frame 00000: its recorded can_bus has the rotation in {rotation} form, and is fed so; "
        f"the model was converted with can_bus_rotation {other}"
    ]


def test_calibration_is_worked_out_of_a_trt_input_folder(
    dataroot: Path, trt_input: Path, rotation: CanBusRotation
) -> None:
    """The scalar form does not tell how the ego was tilted; seen from the LiDAR nothing is missing."""
    tilt = 0.02 if rotation is CanBusRotation.SCALAR else 0.0
    worked_out = list(open_frames(f"trt-input:{trt_input}?dataroot={dataroot}", IMAGE, SOURCES))
    for frame, wanted in zip(worked_out, read_dataroot(dataroot, warn=lambda _: None), strict=True):
        for pose, known in ((frame.lidar2ego, wanted.lidar2ego), (frame.ego2global, wanted.ego2global)):
            np.testing.assert_allclose(pose.rotation, known.rotation, atol=tilt or 1e-5)
            np.testing.assert_allclose(pose.translation, known.translation, atol=2 * tilt or 1e-3)
        for ours, known_l2g in zip(lidar_to_global(frame), lidar_to_global(wanted), strict=True):
            np.testing.assert_allclose(ours, known_l2g, atol=1e-3)
        for camera, view in frame.cameras.items():
            known_view = wanted.cameras[camera]
            np.testing.assert_allclose(view.intrinsics, known_view.intrinsics, atol=1e-3)
            np.testing.assert_allclose(view.sensor2lidar.rotation, known_view.sensor2lidar.rotation, atol=1e-5)


def damage(path: Path, data: bytes | None) -> None:
    path.unlink() if data is None else path.write_bytes(data)


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("info.txt", b"", r"info\.txt: names no frame"),
        (
            "info.txt",
            b"a.jpg;b.jpg;\n",
            r"info\.txt: line 1: names 2 images; a frame has 6, each ended by a semicolon",
        ),
        ("info.txt", b"\xff\xfe", r"info\.txt: cannot be read"),
        ("info.txt", b"a;" * 6, r"6 of 6 images are missing, first a; give the nuScenes folder .* \?dataroot=…"),
        ("l2g_t/1.bin", None, r"l2g_t/1\.bin: cannot be read \(No such file or directory\)"),
        ("l2g_t/1.bin", bytes(8), r"l2g_t/1\.bin: has fewer than 12 bytes"),
        ("l2g_t/1.bin", bytes(24), r"l2g_t/1\.bin: has more than 12 bytes"),
        ("l2g_t/1.bin", np.full(3, np.nan, np.float32).tobytes(), r"l2g_t/1\.bin: holds a value that is not finite"),
        ("command/1.bin", np.float32(7).tobytes(), r"frame 1: command: expected .* found 7\.0"),
        ("img_metas_scene_token/1.bin", bytes(128), r"frame 1: img_metas_scene_token: holds other numbers"),
        ("img_metas_lidar2img/1.bin", bytes(384), r"frame 1: img_metas_lidar2img of CAM_FRONT: is no product of"),
        ("img_metas_can_bus/1.bin", bytes(72), r"frame 1: img_metas_can_bus\.rotation: the quaternion .* has norm 0"),
        ("l2g_r_mat/1.bin", bytes(36), r"frame 1: l2g\.rotation: the matrix is not orthonormal"),
    ],
)
def test_a_damaged_trt_input_folder(trt_input: Path, file: str, data: bytes | None, message: str) -> None:
    damage(trt_input / file, data)
    with pytest.raises(InputError, match=message):
        open_frames(f"trt-input:{trt_input}", IMAGE, SOURCES)
