"""A bundle beside a dump of the model in its training's environment: what differs is found and named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.toolkit.toy_bundle import toy_frame
from tests.toolkit.verification.dumps import Arrays, dump_arrays, probe_inputs
from toolkit.bundle import Bundle
from toolkit.cli.verify import verify_command
from toolkit.config.model import CAMERAS, CanBusRotation
from toolkit.data.ego_motion import rotation_entries
from toolkit.data.frame_folder import read_frame_folder, write_frame
from toolkit.data.sequence import sequence_inputs
from toolkit.engines.torch import TorchSession
from toolkit.errors import CheckFailed, InputError
from toolkit.plugin.manager import PluginManager
from toolkit.reference_interface.dump import read_dump
from toolkit.reference_interface.tensors import FRAME
from toolkit.verification.recording import recorded_frames, recorded_start, require_outputs
from toolkit.verification.report_file import read_reports
from toolkit.verification.sequence import sampled_sequence
from toolkit.verification.verify import verify_recording

FRAMES = 3
Change = Callable[[Arrays], object]
Against = Callable[..., None]


@pytest.fixture(scope="module")
def bundle(toy_bundle: Bundle) -> Bundle:
    return toy_bundle


@pytest.fixture(scope="module")
def session(bundle: Bundle, plugins: PluginManager) -> TorchSession:
    return TorchSession.of_bundle(bundle, plugins)


@pytest.fixture(scope="module")
def dumped(bundle: Bundle, session: TorchSession) -> Arrays:
    """What the network itself does in three made-up frames."""
    return dump_arrays(bundle, session, probe_inputs(bundle, FRAMES))


@pytest.fixture
def against(bundle: Bundle, plugins: PluginManager, dumped: Arrays, tmp_path: Path) -> Against:
    """Runs the command with torch's session against the dump, changed first."""

    def run(change: Change = lambda arrays: None, **options: Any) -> None:
        change(arrays := dict(dumped))
        np.savez(tmp_path / "dump.npz", **arrays)
        context: Any = SimpleNamespace(obj=plugins)
        defaults: dict[str, Any] = {"bundle": bundle.path, "frames": None, "inputs": None, "sessions": "torch",
                                    "length": None, "output": None}  # fmt: skip
        verify_command(context, **defaults | options, against=tmp_path / "dump.npz")

    return run


def meta(**values: object) -> Change:
    return lambda arrays: arrays.update(meta=np.array(json.dumps(values)))


def test_the_networks_own_dump_agrees(against: Against, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Several sessions may be named; every one is compared with the dump. What is not in the network is passed over."""
    against(
        lambda arrays: arrays.update({"f0.out.plan_optimised": np.zeros(3), "f0.aux.scene_token": np.array("monday")}),
        output=tmp_path / "report.json",
    )
    assert "torch agrees with dump.npz" in capsys.readouterr().out
    [report] = json.loads((tmp_path / "report.json").read_text())
    assert (report["passed"], report["frames"], report["dump"]["file"]) == (True, FRAMES, "dump.npz")
    compared = {comparison["tensor"] for comparison in report["comparisons"]}
    assert {"bev", "track_query", "boxes", "box_ids", "occupancy", "plan"} <= compared


def test_a_dump_may_begin_midway(bundle: Bundle, session: TorchSession, dumped: Arrays, tmp_path: Path) -> None:
    """It then holds the state before its first frame."""
    arrays = {f"f0.{key[3:]}": array for key, array in dumped.items() if key.startswith("f2.")}
    state = {key[7:].removesuffix("_out"): array for key, array in dumped.items() if key.startswith("f1.out.prev_")}
    state |= {"prev_bev": dumped["f1.out.bev_embed"], "max_obj_id": dumped["f1.out.max_obj_id_out"]}
    np.savez(tmp_path / "dump.npz", **arrays, **{f"f0.in.{name}": array for name, array in state.items()})
    dump = read_dump(tmp_path / "dump.npz")
    assert dump.starts_midway
    frames = recorded_frames(dump, bundle, 1)
    [report], _ = verify_recording(
        bundle, "dump", frames, [session], lambda: session, start=recorded_start(dump, bundle)
    )
    report.require()


def without(*patterns: str) -> Change:
    """A change that takes the tensors away whose keys match."""
    return lambda arrays: [arrays.pop(key) for key in list(arrays) if re.match("|".join(patterns), key)]


@pytest.mark.parametrize(
    ("taken", "message"),
    [
        (
            r"f\d\.out\.(?!max_obj_id_out)",
            "frame 0 lacks bboxes_dict_bboxes, scores, labels, .*, outs_planning, bev",
        ),
        (r"f\d\.out\.(?!labels)", r"frame 0 lacks bboxes_dict_bboxes, scores, bbox_index, .*; dump again"),
        (r"f[12]\.out\.(?!scores)", "frame 1 lacks bboxes_dict_bboxes, labels, .*; dump again"),
        (r"f2\.out\.outs_planning", "frame 2 lacks outs_planning, which the bundle's network gives; dump again"),
        (r"f0\.out\.bev_embed", "frame 0 lacks bev_embed, which"),
    ],
)
def test_a_dump_needs_all_outputs_in_every_frame(taken: str, message: str, against: Against) -> None:
    """A few would agree too easily."""
    with pytest.raises(InputError, match=message):
        against(without(taken))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ((), None),
        (("f1.out.bev_embed",), "frame 2 lacks bev_embed, which"),
        (("f1.out.bev_embed", "f2.out.bev_embed"), None),
        (("f2.out.bev_embed",), "frame 1 lacks bev_embed"),
        (("f2.aux.traj",), "frame 0 lacks traj, which"),
    ],
)
def test_what_one_frame_has_others_need(
    extra: tuple[str, ...], message: str | None, bundle: Bundle, dumped: Arrays, tmp_path: Path
) -> None:
    """Forecasts, and tracks and BEV between the first frame and the last; none of the frames needs them there."""
    arrays = {f"f3{key[2:]}": array for key, array in dumped.items() if key.startswith("f2.")} | dumped
    without(r"f[12]\.out\.(prev_|bev)")(arrays)
    np.savez(tmp_path / "dump.npz", **arrays | {key: np.zeros((3, 1)) for key in extra})
    dump = read_dump(tmp_path / "dump.npz")
    with nullcontext() if message is None else pytest.raises(InputError, match=message):
        require_outputs(dump, bundle, FRAMES)


@pytest.mark.parametrize("key", ["f0.in.img", "f0.out.bev_embed"])
def test_another_size_is_told_before_settings(key: str, against: Against) -> None:
    """With the remedy, for inputs and outputs alike."""

    def change(arrays: Arrays) -> None:
        meta(score_thresh=0.2)(arrays)
        arrays[key] = np.zeros((3, 2), np.float32)

    with pytest.raises(InputError, match=rf"{key[-3:]} is float32\[3, 2\]; it must hold .*; use the bundle or config"):
        against(change)


def test_as_many_cameras_as_pictures(against: Against) -> None:
    with pytest.raises(InputError, match=r"meta names 2 cameras, f0\.in\.img has 6; dump again"):
        against(meta(cameras=CAMERAS[:2]))


def test_pictures_that_a_dump_lacks_come_from_elsewhere(against: Against, dumped: Arrays, tmp_path: Path) -> None:
    """From as many frames as the dump has."""
    with pytest.raises(InputError, match=r"f0\.in\.img is missing; give --frames or --inputs, to take it from there"):
        against(without(r"f\d\.in\.img$"))
    np.savez(tmp_path / "inputs.npz", **{key: array for key, array in dumped.items() if key.startswith("f0.in.")})
    with pytest.raises(InputError, match=r"inputs\.npz holds 1 frames, the dump 3; give .* dumped, or --length 1"):
        against(inputs=tmp_path / "inputs.npz")


def test_numbers_of_frames_are_of_plain_digits(dumped: Arrays, tmp_path: Path) -> None:
    """Other keys are none of ours."""
    np.savez(tmp_path / "dump.npz", **dumped | {"f\u0661.in.img": np.zeros(1), "f\u0663.in.img": np.zeros(1)})
    dump = read_dump(tmp_path / "dump.npz")
    assert len(dump.inputs) == FRAMES
    assert dump.inputs[1]["img"].size > 1


def test_every_setting_is_told_and_nothing_is_run(
    against: Against, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CheckFailed) as caught:
        against(
            meta(score_thresh=0.2, yaw_convention="heading", versions={"torch": "1.9.1"}), output=tmp_path / "r.json"
        )
    assert [line.partition(" ")[0] for line in caught.value.args] == ["score_thresh", "yaw_convention"]
    assert "run 3 frames" not in capsys.readouterr().out
    [report] = read_reports(tmp_path / "r.json")
    assert report.failure == "; ".join(caught.value.args)
    assert report.dump is not None
    assert report.dump.facts == {"torch": "1.9.1", "score_thresh": "0.2", "yaw_convention": "heading"}


def with_rotation(frames: list[Arrays], form: CanBusRotation) -> list[Arrays]:
    """Frames whose can_bus has a heading of 0.8 in this form."""
    changed = []
    for frame in frames:
        can_bus = frame["img_metas_can_bus"].copy()
        can_bus[3:7] = rotation_entries(np.array([np.cos(0.4), 0, 0, np.sin(0.4)]), form)
        can_bus[16] = 0.8
        changed.append(frame | {"img_metas_can_bus": can_bus})
    return changed


def test_rotation_that_was_not_fed(against: Against, bundle: Bundle, session: TorchSession) -> None:
    """A dump that holds four times w, and outputs of a model that was fed a quaternion."""
    given = probe_inputs(bundle, 1)
    arrays = dump_arrays(bundle, session, with_rotation(given, CanBusRotation.QUATERNION))
    [held] = with_rotation(given, CanBusRotation.SCALAR)
    arrays["f0.in.img_metas_can_bus"] = held["img_metas_can_bus"]
    with pytest.raises(CheckFailed, match=r"another setting .* holds the rotation in scalar form, but was fed in quat"):
        against(lambda old: replaced(old, arrays))


def test_cameras_in_another_order(against: Against, bundle: Bundle, session: TorchSession) -> None:
    """They are known by where they look."""
    [frame] = probe_inputs(bundle, 1)
    named, shuffled = [0, 5, 1, 3, 2, 4], [1, 0, 2, 3, 4, 5]
    for name in ("img", "img_metas_lidar2img"):
        frame[name] = frame[name][named]
    arrays = dump_arrays(bundle, session, [frame])
    for name in ("img", "img_metas_lidar2img"):
        arrays[f"f0.in.{name}"] = frame[name][shuffled]
    message = "another setting .* its inputs have the cameras in the order CAM_FRONT_RIGHT, CAM_FRONT, CAM_FRONT_LEFT, "
    with pytest.raises(CheckFailed, match=message):
        against(lambda old: replaced(old, arrays))


def test_yaws_of_the_other_convention(against: Against, bundle: Bundle) -> None:
    def turn(arrays: Arrays) -> None:
        boxes = arrays["f0.out.bboxes_dict_bboxes"].copy()
        boxes[:, 6] = -boxes[:, 6] - np.pi / 2
        arrays["f0.out.bboxes_dict_bboxes"] = boxes

    with pytest.raises(CheckFailed, match="its yaws are those of yaw_convention heading: convert again with --yaw-con"):
        against(turn, length=1)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """The frames that `prepared` holds, as a folder."""
    (tmp_path / "frames").mkdir()
    for number in range(2):
        write_frame(toy_frame(number, "monday"), tmp_path / "frames")
    return tmp_path / "frames"


@pytest.fixture(scope="module")
def prepared(bundle: Bundle, session: TorchSession, tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """A dump of two frames of a folder, as the toolkit prepares them."""
    folder = tmp_path_factory.mktemp("frames")
    for number in range(2):
        write_frame(toy_frame(number, "monday"), folder)
    inputs = sequence_inputs(read_frame_folder(folder), bundle.config)
    official = [{name: arrays[ours] for name, ours in FRAME.items()} for _, arrays in inputs]
    return dump_arrays(bundle, session, official)


def replaced(arrays: Arrays, others: Arrays, change: Change = lambda arrays: None) -> None:
    arrays.clear()
    arrays.update(others)
    change(arrays)


def test_frames_that_are_prepared_alike(
    against: Against, prepared: Arrays, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a dump leaves out, as here the pictures, is taken from there."""
    against(
        lambda arrays: replaced(arrays, prepared, lambda a: [a.pop(f"f{t}.in.img") for t in range(2)]),
        frames=str(frames),
    )
    out = capsys.readouterr().out
    assert "Inputs as prepared here against dump.npz" in out
    assert "lidar2img" in out
    assert "torch agrees with dump.npz" in out


def test_times_count_from_the_scenes_beginning(against: Against, prepared: Arrays, frames: Path) -> None:
    def later(arrays: Arrays) -> None:
        for number in range(2):
            arrays[f"f{number}.in.timestamp"] = arrays[f"f{number}.in.timestamp"] + 8

    against(lambda arrays: replaced(arrays, prepared, later), frames=str(frames))


def changed_entry(key: str, at: Any, value: float) -> Change:
    def change(arrays: Arrays) -> None:
        arrays[key] = arrays[key].copy()
        arrays[key][at] += value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            changed_entry("f1.in.img_metas_can_bus", 8, 1),
            "'can_bus' differs .* frame 1 in the readings of the CAN bus: ",
        ),
        (
            changed_entry("f0.in.img_metas_can_bus", 17, 1),
            "'can_bus' differs .* frame 0 in the turn since the frame bef",
        ),
        (changed_entry("f1.in.img", (0, 1), 9), "'image' differs .* frame 1 in brightness or contrast from pict"),
        (changed_entry("f0.in.command", 0, -1), "'command' differs from the dump's first at frame 0: error 1"),
    ],
)
def test_another_preparation_is_named(
    change: Change, message: str, against: Against, prepared: Arrays, frames: Path
) -> None:
    with pytest.raises(CheckFailed, match=f"^input {message}"):
        against(lambda arrays: replaced(arrays, prepared, change), frames=str(frames))


def test_inputs_of_a_file_in_place_of_frames(against: Against, dumped: Arrays, tmp_path: Path) -> None:
    inputs = {key: array for key, array in dumped.items() if ".in." in key}
    np.savez(tmp_path / "inputs.npz", **inputs)
    against(inputs=tmp_path / "inputs.npz", length=1)


def test_frames_by_the_data_sets_names(bundle: Bundle, frames: Path, plugins: PluginManager) -> None:
    """The dump may begin later than the folder."""
    warnings: list[str] = []
    sequence = sampled_sequence(bundle, str(frames), ("frame1",), plugins.frame_sources(), warnings.append)
    [inputs] = sequence.frames
    assert inputs["use_previous"] == [1]
    assert warnings == []
    sampled_sequence(bundle, str(frames), ("elsewhere",), plugins.frame_sources(), warnings.append)
    assert "has no frame 'elsewhere', with which the dump begins; the first is taken for it" in warnings[0]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (("frame1", "frame2"), "holds 1 frames from the dump's first on, the dump 2; give the frames that were dumped"),
        (("frame0", "frame2"), "goes on with frame 'frame1', the dump with 'frame2'; give the frames that were dumped"),
    ],
)
def test_other_frames_than_dumped(
    samples: tuple[str, ...], message: str, bundle: Bundle, frames: Path, plugins: PluginManager
) -> None:
    with pytest.raises(InputError, match=message):
        sampled_sequence(bundle, str(frames), samples, plugins.frame_sources(), print)
