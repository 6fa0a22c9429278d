"""Faulty nuScenes data, info files and addresses: one line each that names the fault and the remedy."""

from __future__ import annotations

import json
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.nuscenes.tables import CONFIG, IMAGE, SOURCES, VERSION, edit_table, token
from toolkit.cli.main import run
from toolkit.config.model import ImageConfig
from toolkit.data.frames import FrameSource
from toolkit.data.sequence import sequence_inputs
from toolkit.data.sources import open_frames
from toolkit.errors import InputError


def opened(address: str, image: ImageConfig = IMAGE) -> FrameSource:
    return open_frames(address, image, SOURCES, warn=lambda _: None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("?version=v1.0-trainval", r"has no version v1\.0-trainval; found there: v1\.0-mini"),
        ("?split=test", r"v1\.0-mini: holds no scene of split test; it holds scene-0103, scene-0061"),
        ("?split=mini_test", r"there is no split mini_test; nuScenes has train, val, .*splits\.json does not exist"),
        ("?scenes=scene-0061,scene-0062", r"has no scene scene-0062; it holds scene-0103, scene-0061"),
        ("?split=mini_val&scenes=scene-0061", r"split mini_val of .* has no scene scene-0061; it holds scene-0103"),
        ("?command=up", r'command: expected "right", "left", "straight" or 0, 1, 2 in this order, found \'up\''),
        ("?scene=scene-0061", r"option 'scene' is unknown; known here are version, split, scenes, command"),
        ("?split=val&split=train", r"option 'split' is given twice"),
        ("?split=", r"option 'split' has no value"),
    ],
)
def test_a_choice_that_does_not_exist(dataroot: Path, options: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(f"nuscenes:{dataroot}{options}")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nuscenes:{}/nowhere", "nowhere: is not a folder; give the nuScenes folder that holds samples/"),
        ("nuscenes:{}/samples", "a version must be chosen; found there: none, unpack the metadata archive"),
        ("nuscenes:", "has no path; give it before the question mark"),
        ("infos:{}/nowhere.pkl", "info file .*nowhere.pkl cannot be read: No such file"),
        ("trt-input:{}", r"info\.txt: cannot be read .*; give the folder uniad_trt_input"),
        ("nuscene:{}", "nuscene:.*: is not a folder; give the folder that holds one JSON file per frame"),
    ],
)
def test_a_place_that_does_not_exist(dataroot: Path, address: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(address.format(dataroot))


def test_two_versions_need_a_choice(copied: Path) -> None:
    (copied / "v1.0-test").mkdir()
    (copied / "v1.0-test/scene.json").write_text("[]")
    with pytest.raises(InputError, match=r"a version must be chosen; found there: v1\.0-mini, v1\.0-test"):
        opened(f"nuscenes:{copied}")
    assert len(opened(f"nuscenes:{copied}?version={VERSION}")) == 8


def test_a_folder_of_tables_in_place_of_the_dataroot(dataroot: Path) -> None:
    with pytest.raises(InputError, match=rf"it is one itself; give the folder above it, {re.escape(str(dataroot))}$"):
        opened(f"nuscenes:{dataroot / VERSION}")


@pytest.mark.parametrize("options", ["", f"?version={VERSION}"])
def test_tables_one_folder_too_deep(copied: Path, options: str) -> None:
    """Given the folder above the dataroot, or an archive that was unpacked into a folder of its own name."""
    above = re.escape(f"found {VERSION} in {copied}; give that, or move {VERSION} up into {copied.parent}")
    with pytest.raises(InputError, match=f"holds no folder of tables; {above}"):
        opened(f"nuscenes:{copied.parent}{options}")
    (copied / VERSION).rename(copied / "tables")
    (copied / VERSION).mkdir()
    (copied / "tables").rename(copied / VERSION / VERSION)
    with pytest.raises(InputError, match=f"{re.escape(f'found {VERSION} in {copied / VERSION}')}; give that, or move"):
        opened(f"nuscenes:{copied}{options}")


def test_missing_tables_are_named(copied: Path) -> None:
    for table in ("ego_pose", "sample"):
        (copied / VERSION / f"{table}.json").unlink()
    with pytest.raises(InputError, match=r"2 of 13 tables are missing: ego_pose\.json, sample\.json; unpack"):
        opened(f"nuscenes:{copied}")


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("ego_pose", lambda records: records.clear(), "cannot be used: KeyError"),
        ("scene", lambda records: records.clear(), "holds no scene"),
        (
            "scene",
            lambda records: [one.update(first_sample_token="") for one in records],
            "hold no sample; choose others",
        ),
        ("scene", lambda records: records[1].pop("name"), "cannot be used: KeyError: 'name'"),
        ("scene", lambda records: records[1].update(name=7), r"scene 1: name: expected a non-empty string, found 7"),
        ("sample", lambda records: records[3].update(next=records[0]["token"]), "that of another sample"),
        ("sample", lambda records: records[1].update(token="../../x", timestamp=10), "cannot be used: KeyError"),
        ("sample", lambda records: records[1].update(timestamp=-1), "timestamp -1 is no time in µs"),
        (
            "ego_pose",
            lambda records: records[0].update(rotation=[2, 0, 0, 0]),
            "LIDAR_TOP.ego_pose.rotation: .* norm 2",
        ),
        (
            "calibrated_sensor",
            lambda records: records[1].update(camera_intrinsic=[]),
            r"CAM_FRONT\.camera_intrinsic: expected 3 x 3 numbers, found \[\]",
        ),
        ("sample_data", lambda records: records.pop(3), "data.CAM_FRONT_LEFT: is missing; give all of LIDAR_TOP, CAM"),
        ("map", lambda records: records.clear(), "cannot be used: IndexError"),
        (
            "map",
            lambda records: records[0].pop("log_tokens"),
            "cannot be used: Exception: Error: log_tokens not in map",
        ),
    ],
)
def test_damaged_tables(copied: Path, table: str, change: Callable[[list[Any]], object], message: str) -> None:
    edit_table(copied, table, change)
    with pytest.raises(InputError, match=message):
        opened(f"nuscenes:{copied}")


def test_a_table_that_is_no_json(copied: Path) -> None:
    (copied / VERSION / "sample.json").write_text('[{"token": ')
    with pytest.raises(InputError, match=r"v1\.0-mini: cannot be used: JSONDecodeError: .*; unpack the metadata"):
        opened(f"nuscenes:{copied}")


def test_missing_images_are_counted(copied: Path) -> None:
    pictures = sorted((copied / "samples/CAM_BACK").glob("scene-0061*"))
    for picture in pictures[1:]:
        picture.unlink()
    with pytest.raises(InputError, match=f"3 of 48 images are missing, first {re.escape(str(pictures[1]))}; unpack"):
        opened(f"nuscenes:{copied}")
    assert len(opened(f"nuscenes:{copied}?scenes=scene-0103")) == 4


def test_a_corrupt_image_is_named_when_its_turn_comes(copied: Path) -> None:
    picture = sorted((copied / "samples/CAM_BACK").glob("scene-0061*"))[1]
    picture.write_bytes(picture.read_bytes()[:200])
    frames = sequence_inputs(opened(f"nuscenes:{copied}"), CONFIG)
    next(frames)
    with pytest.raises(InputError, match=f"{re.escape(picture.name)}: the JPEG file is (cut off|corrupt)"):
        next(frames)


def test_scenes_without_can_bus_are_one_warning(copied: Path) -> None:
    warnings: list[str] = []
    frames = open_frames(f"nuscenes:{copied}", IMAGE, SOURCES, warn=warnings.append)
    assert len(warnings) == 1
    assert re.match(r"1 of 2 scenes have no CAN bus data in .*can_bus, first scene-0061; .* are zero", warnings[0])
    for frame in frames:
        assert frame.can.velocity.any() == (frame.scene == "scene-0103")
    (copied / "can_bus/scene-0103_pose.json").unlink()
    (copied / "can_bus").rmdir()
    open_frames(f"nuscenes:{copied}", IMAGE, SOURCES, warn=warnings.append)
    assert warnings[1].startswith("2 of 2 scenes have no CAN bus data")
    assert warnings[0].endswith("are zero, as in the reference")
    assert warnings[1].endswith("are zero, unlike in training: unpack the CAN bus expansion there")


def test_a_damaged_can_bus(copied: Path) -> None:
    path = copied / "can_bus/scene-0103_pose.json"
    messages = json.loads(path.read_text())
    del messages[4]["vel"]
    path.write_text(json.dumps(messages))
    with pytest.raises(InputError, match=r"scene-0103_pose\.json: message 4\.vel: is missing"):
        opened(f"nuscenes:{copied}")
    path.write_text("{")
    with pytest.raises(InputError, match=r"scene-0103_pose\.json: is damaged: JSONDecodeError.* unpack the CAN bus"):
        opened(f"nuscenes:{copied}")


def test_without_the_devkit(dataroot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nuscenes.nuscenes", None)
    with pytest.raises(InputError, match=r"needs nuscenes-devkit.*pip install 'uniad-toolkit\[nuscenes\]'"):
        opened(f"nuscenes:{dataroot}")


def test_prepare_leaves_nothing_behind(dataroot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out/frames"
    assert run(["prepare", "--dataroot", str(dataroot), "--split", "test", "-o", str(output)]) == 2
    assert "holds no scene of split test" in capsys.readouterr().err
    assert list(output.parent.iterdir()) == []


def test_a_model_with_other_cameras(dataroot: Path) -> None:
    """Fewer of nuScenes' cameras work; a camera that nuScenes does not have cannot."""
    frames = opened(f"nuscenes:{dataroot}", ImageConfig(cameras=("CAM_BACK", "CAM_FRONT")))
    assert [list(frame.cameras) for frame in frames] == [["CAM_BACK", "CAM_FRONT"]] * 8
    with pytest.raises(InputError, match=r"data\.CAM_ROOF: is missing; give all of LIDAR_TOP, CAM_ROOF"):
        opened(f"nuscenes:{dataroot}", ImageConfig(cameras=("CAM_ROOF",)))


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def save_infos(infos: Path, tmp_path: Path) -> Callable[..., str]:
    """A function that saves the info file with changes to the second info, and gives its address."""

    def save(change: Callable[[Any], Any]) -> str:
        content = pickle.loads(infos.read_bytes())
        changed = change(content)
        (tmp_path / "infos.pkl").write_bytes(pickle.dumps(changed if isinstance(changed, list | dict) else content))
        return f"infos:{tmp_path / 'infos.pkl'}"

    return save


def test_code_in_an_info_file_is_refused(save_infos: Callable[..., str], tmp_path: Path) -> None:
    address = save_infos(lambda content: content["infos"][1].update(extra=Evil(tmp_path / "harm")))
    with pytest.raises(
        InputError, match=r"info file .* cannot be read: .* names 'pathlib.*', and reading it would run"
    ):
        opened(address)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("foreign", [ImageConfig(), np.array([None]), 1j])
def test_foreign_objects_in_an_info_file_are_refused(save_infos: Callable[..., str], foreign: object) -> None:
    address = save_infos(lambda content: content["infos"][1].update(extra=foreign))
    with pytest.raises(InputError, match=r"infos\.pkl cannot be read: UnpicklingError: .*; give a nuscenes_infos"):
        opened(address)


def change(*keys: str, value: Any) -> Callable[[Any], None]:
    def apply(content: Any) -> None:
        inner = content["infos"][1]
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    return apply


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda content: [1], r"infos\.pkl: expected an object with named fields, found \[1\]"),
        (lambda content: {"metadata": {}}, r"infos\.pkl: infos: is missing"),
        (
            lambda content: {"metainfo": {}, "data_list": [{}]},
            r"of mmdetection3d 1\.x \(data_list\), which lacks can_bus and scenes; use nuscenes:DATAROOT",
        ),
        (
            lambda content: (
                [one.pop(name) for one in content["infos"] for name in ("can_bus", "scene_token")] and content
            ),
            r"none of its frames has scene_token, can_bus: another project made it; use nuscenes:DATAROOT, or make",
        ),
        (lambda content: {"infos": []}, r"infos: holds no frame; create the info files again"),
        (lambda content: content["infos"].append(7), r"infos\[8\]: expected an object with named fields, found 7"),
        (lambda content: content["infos"][1].pop("can_bus"), r"infos\[1\]\.can_bus: is missing; give all of token,"),
        (change("can_bus", value=np.zeros(9)), r"infos\[1\]\.can_bus: expected 18 numbers, found "),
        (change("timestamp", value=1.5e15), r"infos\[1\]\.timestamp: expected whole microseconds, found 1500000"),
        (change("timestamp", value=10**400), r"is no time in µs"),
        (
            change("token", value="../../etc/passwd"),
            r"sample '../../etc/passwd' of scene .*: names must be letters and",
        ),
        (change("lidar2ego_rotation", value=[0.0] * 4), r"infos\[1\]\.lidar2ego\.rotation: the quaternion .* norm 0"),
        (
            change("cams", "CAM_BACK", "data_path", value="a\nb"),
            r"image path 'a\\nb' is damaged; create the file again",
        ),
        (change("cams", value={}), r"infos\[1\]\.cams\.CAM_FRONT: is missing"),
        (
            change("cams", "CAM_BACK", "data_path", value=3),
            r"CAM_BACK\.data_path: expected a non-empty string, found 3",
        ),
        (
            change("cams", "CAM_BACK", "sensor2lidar_rotation", value=np.ones((3, 3))),
            r"infos\[1\]\.cams\.CAM_BACK\.sensor2lidar\.rotation: the matrix is not orthonormal",
        ),
        (change("cams", "CAM_BACK", "cam_intrinsic", value=np.array([[np.nan] * 3] * 3)), "not finite"),
        (lambda content: None, r"48 of 48 images are missing, first data/nuscenes/samples/.*\?dataroot=…"),
    ],
)
def test_faulty_info_files(save_infos: Callable[..., str], changed: Callable[[Any], Any], message: str) -> None:
    address = save_infos(changed)
    with pytest.raises(InputError, match=message):
        opened(address)


def test_lists_that_hold_each_other_are_refused_at_once(save_infos: Callable[..., str]) -> None:
    """Printed or converted whole, they would fill the memory."""
    nested: list[Any] = [1.0, 2.0, 3.0]
    for _ in range(60):
        nested = [nested, nested, nested]
    address = save_infos(change("ego2global_translation", value=nested))
    with pytest.raises(InputError, match=r"infos\[1\]\.ego2global\.translation: expected 3 numbers, found \[\[\["):
        opened(address)


def test_a_damaged_info_file(infos: Path, tmp_path: Path) -> None:
    path = tmp_path / "infos.pkl"
    for data in (b"", b"not a pickle", infos.read_bytes()[:5000], b"version https://git-lfs.github.com/spec/v1\n"):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"info file .*infos\.pkl (cannot be read: |is empty)"):
            opened(f"infos:{path}")


def test_scenes_of_an_info_file_are_tokens(dataroot: Path, infos: Path) -> None:
    place = f"infos:{infos}?dataroot={dataroot}"
    frames = opened(f"{place}&scenes={token('scene-0103')}&command=left")
    assert [(frame.scene, int(frame.command)) for frame in frames] == [(token("scene-0103"), 1)] * 4
    with pytest.raises(InputError, match=r"has no scene scene-0103; info files name their 2 scenes by token, such as"):
        opened(f"{place}&scenes=scene-0103")
