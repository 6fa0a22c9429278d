"""Recording frames of a model while its own test script runs it."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.toolkit.bridge.small_uniad import QUERIES, STEPS, SmallUniAD, small_batch
from toolkit.config.model import CanBusRotation
from toolkit.reference_interface.dump import read_dump
from toolkit.reference_interface.replay import read_inputs

TRACKS = {"prev_track_intances0_out": "query", "prev_track_intances5_out": "disappear_time"}
SCENES = ("one", "one", "two", "two")


def drive(model: nn.Module, count: int = 4, first: int = 0) -> list[dict[str, Any]]:
    """What a test script does; the results, and copies of the state after each frame."""
    results = []
    for number in range(first, first + count):
        (result,) = model(return_loss=False, rescale=True, **small_batch(number, SCENES[number]))
        uniad = getattr(model, "module", model)
        results.append(copy.deepcopy({**result, "tracks": uniad.test_track_instances, "bev": uniad.prev_bev}))
    return results


def dump(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def meta(path: Path) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(str(dump(path)["meta"]))
    return described


@pytest.fixture
def recorded(bridge: ModuleType, tmp_path: Path) -> Path:
    """Four frames in two scenes."""
    model, path = SmallUniAD(), tmp_path / "dump.npz"
    bridge.attach(model, str(path), frames=4)
    drive(model)
    return path


def test_it_is_laid_out_as_the_dump_of_the_official_model(recorded: Path, golden: Path) -> None:
    """Keys, dtypes and ranks; that dump lacks the images, and has what the graph does not give among the outputs."""
    official = dump(golden / "bridge" / "dump_official_seedA.npz")
    moved = {"out.plan_optimised": "aux.plan_optimised", "out.traj": "aux.trajectories"}
    expected = {}
    for key, array in official.items():
        name = key.partition(".")[2]
        expected[moved.get(name, name)] = (array.dtype, array.ndim)
    found = {key.partition(".")[2]: (array.dtype, array.ndim) for key, array in dump(recorded).items()}
    assert {name: kind for name, kind in found.items() if name in expected} == expected
    assert {name for name in found if name.startswith(("in.", "out."))} - expected.keys() == {"in.img"}


def test_every_frame_is_as_it_was_at_its_time(bridge: ModuleType, tmp_path: Path) -> None:
    """The model turns its stored BEV, ages tracks, and adds the ego to boxes, all in place."""
    model, path = SmallUniAD(), tmp_path / "dump.npz"
    bridge.attach(model, str(path), frames=4)
    results = drive(model)
    arrays = dump(path)
    for number, result in enumerate(results):
        np.testing.assert_array_equal(arrays[f"f{number}.out.bev_embed"], result["bev"])
        for name, field in TRACKS.items():
            np.testing.assert_array_equal(arrays[f"f{number}.out.{name}"], getattr(result["tracks"], field))
        assert len(arrays[f"f{number}.out.bboxes_dict_bboxes"]) == len(arrays[f"f{number}.out.scores"])
        assert len(arrays[f"f{number}.aux.trajectories"]) == len(arrays[f"f{number}.out.scores"]) + 1
        np.testing.assert_array_equal(arrays[f"f{number}.out.bbox_index"], result["bbox_index"])
        np.testing.assert_array_equal(arrays[f"f{number}.in.img"], small_batch(number)["img"][0])


def test_the_model_does_what_it_does_without(bridge: ModuleType, tmp_path: Path) -> None:
    """And nothing of the bridge is left in it."""
    model = SmallUniAD()
    alone = copy.deepcopy(model)
    own = set(vars(model))
    bridge.attach(model, str(tmp_path / "dump.npz"), frames=3)
    for with_bridge, without in zip(drive(model), drive(alone), strict=True):
        torch.testing.assert_close(with_bridge["planning"], without["planning"], rtol=0, atol=0)
        torch.testing.assert_close(with_bridge["bev"], without["bev"], rtol=0, atol=0)
    assert set(vars(model)) == own
    assert "forward_test" not in vars(model.planning_head)


def test_the_plan_is_that_before_the_optimiser(bridge: ModuleType, recorded: Path, tmp_path: Path) -> None:
    arrays = dump(recorded)
    assert arrays["f0.out.outs_planning"].shape == (1, STEPS, 2)
    np.testing.assert_allclose(arrays["f0.aux.plan_optimised"] - arrays["f0.out.outs_planning"], 3.5, rtol=1e-5)
    model, path = SmallUniAD(), tmp_path / "plain.npz"
    model.planning_head.use_col_optim = False
    bridge.attach(model, str(path), frames=1)
    drive(model, 1)
    np.testing.assert_array_equal(dump(path)["f0.out.outs_planning"], dump(path)["f0.aux.plan_optimised"])


def test_inputs_are_those_of_the_network(recorded: Path) -> None:
    """Poses as differences, times from the scene's start, and where a scene begins."""
    arrays = dump(recorded)
    assert [int(arrays[f"f{t}.in.use_prev_bev"][0]) for t in range(4)] == [0, 1, 0, 1]
    np.testing.assert_allclose([arrays[f"f{t}.in.timestamp"][0] for t in range(4)], [0, 0.5, 0, 0.5], atol=1e-6)
    np.testing.assert_allclose(arrays["f1.in.img_metas_can_bus"][:3], [1, 0, 0])
    np.testing.assert_allclose(arrays["f1.in.img_metas_can_bus"][17], np.degrees(0.1), rtol=1e-6)
    assert arrays["f0.in.command"] == [2]
    assert str(arrays["f2.aux.scene_token"]) == "two"
    assert str(arrays["f2.aux.sample_idx"]) == "sample 2"


def test_the_toolkit_reads_it(recorded: Path) -> None:
    """And what it says of itself."""
    read = read_dump(recorded)
    assert (len(read.inputs), len(read.outputs)) == (4, 4)
    assert read.samples == tuple(f"sample {number}" for number in range(4))
    assert read.origin.versions["torch"] == torch.__version__
    assert (read.origin.score_thresh, read.origin.tf32, read.origin.fp16) == (0.4, False, False)
    assert read.origin.cameras == ("CAM_FRONT", "CAM_FRONT_RIGHT")
    assert read.origin.can_bus_rotation is CanBusRotation.SCALAR


def test_a_dump_may_begin_midway(bridge: ModuleType, tmp_path: Path) -> None:
    """Then it has the state before its first frame."""
    model, path = SmallUniAD(), tmp_path / "dump.npz"
    (before,) = drive(model, 1)
    bridge.attach(model, str(path), frames=1)
    drive(model, 1, first=1)
    arrays = dump(path)
    np.testing.assert_array_equal(arrays["f0.in.prev_bev"], before["bev"])
    np.testing.assert_array_equal(arrays["f0.in.prev_track_intances3"], before["tracks"].obj_idxes)
    assert arrays["f0.in.use_prev_bev"] == [1]
    np.testing.assert_allclose(arrays["f0.in.timestamp"] - arrays["f0.in.prev_timestamp"], 0.5, atol=1e-6)
    assert read_inputs(path)[0].keys() >= {"prev_l2g_r_mat", "prev_l2g_t", "max_obj_id"}


def test_states_in_between_can_be_left_out(bridge: ModuleType, tmp_path: Path) -> None:
    model, path = SmallUniAD(), tmp_path / "dump.npz"
    bridge.attach(model, str(path), frames=4, all_states=False)
    drive(model)
    kept = {key.partition(".")[0] for key in dump(path) if re.search("bev_embed|prev_track", key)}
    assert kept == {"f0", "f3"}
    assert "f1.out.scores" in dump(path)


def test_what_it_says_of_the_model(bridge: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Config and checkpoint are found on the command line of the test script."""
    for name in ("tiny.py", "tiny.pth"):
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["test.py", "tiny.py", "tiny.pth", "--launcher", "none"])
    model = SmallUniAD()
    bridge.attach(model, "dump.npz", frames=2, yaw_convention="heading")
    drive(model, 2)
    said = meta(tmp_path / "dump.npz")
    assert said["checkpoint_sha256"] == hashlib.sha256(b"tiny.pth").hexdigest()
    assert said["config_sha256"] == hashlib.sha256(b"tiny.py").hexdigest()
    assert said["versions"]["torch"] == torch.__version__
    assert (said["score_thresh"], said["filter_score_thresh"], said["miss_tolerance"]) == (0.4, 0.35, 5)
    assert (said["tf32"], said["fp16"], said["device"]) == (False, False, "CPU")
    assert said["cameras"] == ["CAM_FRONT", "CAM_FRONT_RIGHT"]
    assert (said["yaw_convention"], said["can_bus_rotation"], said["use_col_optim"]) == ("heading", "scalar", True)
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?", said["commit"])


def test_what_it_says_is_json(bridge: ModuleType, tmp_path: Path) -> None:
    """Of paths the text, of numpy and torch the numbers, so that the last frame is not what fails."""
    for name in ("tiny.py", "tiny.pth"):
        (tmp_path / name).write_text(name)
    model, path = SmallUniAD(), tmp_path / "dump.npz"
    tracker: Any = model.track_base
    tracker.score_thresh, tracker.filter_score_thresh = torch.tensor(0.25), np.float32(0.5)
    tracker.miss_tolerance = np.int64(5)
    bridge.attach(model, path, frames=1, config=tmp_path / "tiny.py", checkpoint=tmp_path / "tiny.pth")
    drive(model, 1)
    said = meta(path)
    assert (said["score_thresh"], said["filter_score_thresh"], said["miss_tolerance"]) == (0.25, 0.5, 5)
    assert (said["config"], said["checkpoint"]) == (str(tmp_path / "tiny.py"), str(tmp_path / "tiny.pth"))


def test_a_quaternion_is_told_from_its_scalar_part(bridge: ModuleType) -> None:
    half = np.sqrt(0.5)
    assert bridge._rotation([np.array([half, 0, 0, half])]) == "quaternion"
    assert bridge._rotation([np.full(4, half)]) == "scalar"
    assert bridge._rotation([np.full(4, 0.5)]) == "scalar"
    assert bridge._rotation([np.array([0.1, 0.2, 0.3, 0.4])]) is None


def test_the_yaw_is_told_by_the_labels_or_the_tree(bridge: ModuleType) -> None:
    assert bridge.yaw_convention("UniAD v2.0", None) == "heading"
    assert bridge.yaw_convention("UniAD-tiny", "data/infos/infos_train_uniad2.0.pkl") == "heading"
    assert bridge.yaw_convention("UniAD v1", "data/infos/infos_train.pkl") == "clockwise"
    assert bridge.yaw_convention(None, None) is None


def test_half_precision_is_refused_unless_asked_for(bridge: ModuleType, tmp_path: Path) -> None:
    model, path = SmallUniAD(), tmp_path / "dump.npz"
    model.seg_head.fp16_enabled = True
    with pytest.raises(bridge.BridgeError, match="wrapped for FP16: leave out wrap_fp16_model"):
        bridge.attach(model, str(path))
    bridge.attach(model, str(path), frames=1, fp16=True)
    drive(model, 1)
    assert meta(path)["fp16"] is True


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_parameters_in_half_precision_are_refused_unless_asked_for(
    bridge: ModuleType, tmp_path: Path, dtype: torch.dtype
) -> None:
    model, path = SmallUniAD().to(dtype), tmp_path / "dump.npz"
    with pytest.raises(bridge.BridgeError, match=f"query_embedding.weight is of {dtype}: leave out"):
        bridge.attach(model, str(path))
    bridge.attach(model, str(path), frames=1, fp16=True)
    drive(model, 1)
    assert meta(path)["fp16"] is True
    assert dump(path)["f0.out.prev_track_intances0_out"].dtype == np.float32


def test_autocast_is_refused(bridge: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SmallUniAD()
    recorder = bridge.attach(model, str(tmp_path / "dump.npz"))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda: True)
    with pytest.raises(bridge.BridgeError, match="autocast is on"):
        drive(model, 1)
    recorder.close()


@pytest.mark.parametrize("asked", [False, True])
def test_tf32_is_off_unless_asked_for(bridge: ModuleType, tmp_path: Path, asked: bool) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    bridge.attach(SmallUniAD(), str(tmp_path / "dump.npz"), tf32=asked).close()
    assert torch.backends.cudnn.allow_tf32 is asked
    assert torch.backends.cuda.matmul.allow_tf32 is asked


def test_a_shuffled_dataset_is_refused(bridge: ModuleType, tmp_path: Path) -> None:
    model = SmallUniAD()
    recorder = bridge.attach(model, str(tmp_path / "dump.npz"))
    drive(model, 1, first=1)
    with pytest.raises(bridge.BridgeError, match="frame 1 is not later than the one before; do not shuffle"):
        drive(model, 1, first=0)
    recorder.close()


def test_a_run_that_ends_early_leaves_what_it_did(
    bridge: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, path = SmallUniAD(), tmp_path / "dump.npz"
    recorder = bridge.attach(model, str(path), frames=8)
    drive(model, 2)
    assert not path.exists()
    recorder.close()
    assert "wrote 2 of 8 frames" in capsys.readouterr().out
    assert meta(path)["frames"] == 2


def test_a_frame_that_does_not_complete_ends_the_dump(
    bridge: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its script may go on; the frames before it are kept."""
    model, path = SmallUniAD(), tmp_path / "dump.npz"
    bridge.attach(model, str(path), frames=4)
    drive(model, 1)
    with monkeypatch.context() as patch:
        patch.setattr(model.motion_head, "forward_test", lambda *given, **named: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            drive(model, 1, first=1)
    drive(model, 2, first=2)
    assert "frame 1 did not complete; the dump ends before it" in capsys.readouterr().out
    assert meta(path)["frames"] == 1
    assert {key.partition(".")[0] for key in dump(path)} == {"f0", "meta"}
    assert "simple_test_track" not in vars(model)


def test_a_full_disk_is_one_error(bridge: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of the file, nor of the bridge in the model."""

    def full(*given: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    model, path = SmallUniAD(), tmp_path / "dump.npz"
    bridge.attach(model, str(path))
    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array", full)
        with pytest.raises(bridge.BridgeError, match="No space left on device"):
            drive(model, 1)
    assert list(tmp_path.iterdir()) == []
    assert "simple_test_track" not in vars(model)


def test_attaching_twice_is_refused(bridge: ModuleType, tmp_path: Path) -> None:
    """Until the first recorder is closed."""
    model = SmallUniAD()
    recorder = bridge.attach(model, str(tmp_path / "dump.npz"))
    with pytest.raises(bridge.BridgeError, match="already attached; close it first"):
        bridge.attach(model, str(tmp_path / "other.npz"))
    recorder.close()
    bridge.attach(model, str(tmp_path / "other.npz")).close()


def test_outputs_that_cannot_be_are_refused_at_once(bridge: ModuleType, tmp_path: Path) -> None:
    existing = tmp_path / "dump.npz"
    existing.write_text("yours")
    with pytest.raises(bridge.BridgeError, match="already exists; choose another output"):
        bridge.attach(SmallUniAD(), str(existing))
    with pytest.raises(bridge.BridgeError, match="it is a folder; give a file"):
        bridge.attach(SmallUniAD(), str(tmp_path))
    assert existing.read_text() == "yours"


@pytest.mark.parametrize("frames", [2.5, True, "8"])
def test_frames_are_counted_in_whole_numbers(bridge: ModuleType, tmp_path: Path, frames: Any) -> None:
    with pytest.raises(bridge.BridgeError, match="give a whole number, 1 or more"):
        bridge.attach(SmallUniAD(), str(tmp_path / "dump.npz"), frames=frames)


def test_files_that_are_told_must_be_there(bridge: ModuleType, tmp_path: Path) -> None:
    for name in ("config", "checkpoint"):
        with pytest.raises(bridge.BridgeError, match="nowhere is no file"):
            bridge.attach(SmallUniAD(), str(tmp_path / "dump.npz"), **{name: "nowhere"})
    with pytest.raises(bridge.BridgeError, match="config is a int"):
        bridge.attach(SmallUniAD(), str(tmp_path / "dump.npz"), config=1)


def test_without_a_frame_nothing_is_written(bridge: ModuleType, tmp_path: Path) -> None:
    bridge.attach(SmallUniAD(), str(tmp_path / "dump.npz")).close()
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_the_first_stage_has_no_plan(bridge: ModuleType, tmp_path: Path) -> None:
    """Its frames end with the map."""
    model, path = SmallUniAD(), tmp_path / "dump.npz"
    model.motion_head = model.occ_head = model.planning_head = None  # type: ignore[assignment]
    bridge.attach(model, str(path), frames=1)
    batch = small_batch(0)
    (track,) = model.simple_test_track(batch["img"][0], batch["l2g_t"], batch["l2g_r_mat"], batch["img_metas"][0], 0.5)
    model.seg_head.forward_test(track["bev_embed"], None, [torch.zeros(1, 4, 3, 3)], None)
    arrays = dump(path)
    assert len(arrays["f0.out.prev_track_intances0_out"]) > QUERIES
    assert "f0.aux.map_lane" in arrays
    assert not [key for key in arrays if "plan" in key or "command" in key]


def test_other_models_are_refused(bridge: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(bridge.BridgeError, match="Linear has no method simple_test_track"):
        bridge.attach(nn.Linear(1, 1), str(tmp_path / "dump.npz"))
    with pytest.raises(bridge.BridgeError, match="is no folder"):
        bridge.attach(SmallUniAD(), str(tmp_path / "nowhere" / "dump.npz"))
    with pytest.raises(bridge.BridgeError, match="frames is 0"):
        bridge.attach(SmallUniAD(), str(tmp_path / "dump.npz"), frames=0)


def test_wrapped_models_are_unwrapped(bridge: ModuleType, tmp_path: Path) -> None:
    model = nn.DataParallel(SmallUniAD())
    bridge.attach(model, str(tmp_path / "dump.npz"), frames=1)
    drive(model, 1)
    assert (tmp_path / "dump.npz").exists()
