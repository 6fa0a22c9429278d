"""The file run by itself: in a tree whose builders stand for those of mmcv and mmdet3d."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.toolkit.bridge.small_uniad import Boxes, SmallUniAD, small_batch, small_clip

FRAMES = 3


class Settings(dict[str, Any]):
    """A config whose entries are attributes too."""

    def __getattr__(self, name: str) -> Any:
        return self[name]

    __setattr__ = dict.__setitem__
    filename = "tiny.py"


@pytest.fixture
def model() -> SmallUniAD:
    return SmallUniAD()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: SmallUniAD) -> Path:
    """A working directory with a config, a checkpoint of `model` with other weights inside, and a plugin."""
    checkpoint = tmp_path / "tiny.pth"
    torch.save(SmallUniAD().state_dict(), checkpoint)
    (tmp_path / "tiny.py").write_text("# a config")
    (tmp_path / "projects_here" / "plugin").mkdir(parents=True)
    (tmp_path / "projects_here" / "plugin" / "__init__.py").write_text("LOADED = True")
    config = Settings(
        model=Settings(pretrained="weights", train_cfg="for training"),
        plugin=True,
        plugin_dir="projects_here/plugin/",
        data=Settings(test=Settings(samples_per_gpu=1), train=Settings()),
    )

    def build_model(settings: Settings, test_cfg: Any) -> SmallUniAD:
        assert settings.pretrained is None
        return model

    def load_checkpoint(built: nn.Module, file: str, map_location: str, strict: bool) -> None:
        built.load_state_dict(torch.load(file, map_location=map_location), strict=strict)

    def build_dataset(settings: Settings) -> list[Any]:
        if "test_mode" in settings:
            return [small_batch(number) for number in range(FRAMES)]
        return [small_clip()]

    stubs: dict[str, dict[str, Any]] = {
        "mmcv": {"Config": SimpleNamespace(fromfile=lambda file: config), "__version__": "1.6.0"},
        "mmcv.runner": {"load_checkpoint": load_checkpoint},
        "mmcv.parallel": {
            "MMDataParallel": lambda built, gpus: built,
            "collate": lambda samples, samples_per_gpu: samples[0],
        },
        "mmdet3d": {"LiDARInstance3DBoxes": Boxes, "__version__": "1.0.0rc6"},
        "mmdet3d.models": {"build_model": build_model},
        "mmdet3d.datasets": {"build_dataset": build_dataset},
    }
    for name, content in stubs.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def frames(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def test_a_dataset(bridge: ModuleType, tree: Path) -> None:
    """Frames 1 and 2, prepared by the tree, with the checkpoint's weights."""
    assert bridge.main(["tiny.py", "tiny.pth", "--dataset", "1:3", "-o", "dump.npz"]) == 0
    arrays = frames(tree / "dump.npz")
    assert [str(arrays[f"f{t}.aux.sample_idx"]) for t in range(2)] == ["sample 1", "sample 2"]
    weights = torch.load(tree / "tiny.pth")["query_embedding.weight"]
    np.testing.assert_array_equal(arrays["f0.out.prev_track_intances0_out"][: len(weights)], weights)
    said = json.loads(str(arrays["meta"]))
    assert said["versions"]["mmdet3d"] == "1.0.0rc6"
    assert said["model"] == {"pretrained": None, "train_cfg": None}
    assert (said["config"], said["checkpoint"]) == ("tiny.py", "tiny.pth")


def test_tensors_need_no_dataset(bridge: ModuleType, tree: Path, model: SmallUniAD) -> None:
    """What was dumped of a dataset gives the same once more; of conventions it tells nothing then."""
    assert bridge.main(["tiny.py", "tiny.pth", "--dataset", "0:3", "-o", "inputs.npz"]) == 0
    model.set_up()
    assert bridge.main(["tiny.py", "tiny.pth", "--inputs", "inputs.npz", "-o", "dump.npz"]) == 0
    first, second = frames(tree / "inputs.npz"), frames(tree / "dump.npz")
    for key in first.keys() - {"meta"} - {key for key in first if "sample_idx" in key or "scene_token" in key}:
        np.testing.assert_allclose(second[key], first[key], rtol=1e-6, atol=1e-6, err_msg=key)
    assert json.loads(str(second["meta"]))["can_bus_rotation"] is None


def test_losses(bridge: ModuleType, tree: Path) -> None:
    assert bridge.main(["tiny.py", "tiny.pth", "--losses", "0", "-o", "losses.json"]) == 0
    written = json.loads((tree / "losses.json").read_text())
    assert written["losses"]["loss"] > 0
    assert written["meta"]["model"]["train_cfg"] == "for training"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.py", "tiny.pth", "--losses", "0"], "nowhere.py is no file"),
        (["tiny.py", "tiny.pth", "--losses", "7"], "the train dataset has 1 samples, no sample 7"),
        (["tiny.py", "tiny.pth", "--dataset", "3"], "such as 0:8"),
        (["tiny.py", "tiny.pth", "--dataset", "2:9"], "the test dataset has 3 samples, no sample 8"),
        (["tiny.py", "tiny.pth", "--dataset", "0:²"], "such as 0:8"),
        (["tiny.py", "tiny.pth", "--losses", "-1"], "clips count from 0"),
        (["tiny.py", "tiny.pth", "--inputs", "nowhere.npz"], "nowhere.npz is no file"),
        (["tiny.py", "tiny.pth", "--inputs", "tiny.py"], "tiny.py cannot be read as npz"),
    ],
)
def test_bad_input_is_one_line(
    bridge: ModuleType, tree: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert bridge.main([*arguments, "-o", "out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (tree / "out").exists()


@pytest.fixture
def inputs(bridge: ModuleType, tree: Path, model: SmallUniAD) -> dict[str, np.ndarray]:
    """Two frames as `--inputs` takes them."""
    assert bridge.main(["tiny.py", "tiny.pth", "--dataset", "0:2", "-o", "first.npz"]) == 0
    model.set_up()
    return {key: array for key, array in frames(tree / "first.npz").items() if ".in." in key}


def test_inputs_may_lack_the_axis_of_the_batch(bridge: ModuleType, tree: Path, inputs: dict[str, np.ndarray]) -> None:
    """They are shaped as recording shapes them."""
    names = ("img", "img_metas_lidar2img", "l2g_r_mat", "l2g_t", "timestamp", "use_prev_bev", "command")
    without = {key: array[0] if key.rpartition(".")[2] in names else array for key, array in inputs.items()}
    np.savez(tree / "without.npz", **without)  # type: ignore[arg-type]
    assert bridge.main(["tiny.py", "tiny.pth", "--inputs", "without.npz", "-o", "dump.npz"]) == 0
    dumped = frames(tree / "dump.npz")
    for key, array in inputs.items():
        np.testing.assert_allclose(dumped[key], array, rtol=1e-6, atol=1e-6, err_msg=key)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("f1.in.img", None, "lacks f1.in.img"),
        ("f1.in.command", None, "lacks f1.in.command"),
        ("f1.in.use_prev_bev", None, "lacks f1.in.use_prev_bev"),
        ("fx.in.img", np.zeros(1), "must hold frames from 0 on"),
        ("f1.in.l2g_t", np.zeros(4), "f1.in.l2g_t has shape (1, 4), not (1, 3)"),
        ("f1.in.img", np.zeros((2, 2, 3, 4, 4)), "f1.in.img has shape (2, 2, 3, 4, 4), not (1, n, 3, n, n)"),
        ("f1.in.img", np.zeros((1, 5, 3, 4, 4)), "frame 1 has 5 pictures, but 2 matrices lidar2img"),
        ("f1.in.command", np.array(["left"]), "f1.in.command holds <U4, no numbers"),
        ("f1.in.command", np.array([{}]), "f1.in.command cannot be read as npz"),
        ("f1.in.timestamp", np.array([np.nan]), "f1.in.timestamp holds numbers that are not finite"),
    ],
)
def test_inputs_that_cannot_be_are_one_line(
    bridge: ModuleType,
    tree: Path,
    inputs: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    key: str,
    value: np.ndarray | None,
    message: str,
) -> None:
    """Whichever frame it is in, nothing is written."""
    changed = {name: array for name, array in {**inputs, key: value}.items() if array is not None}
    np.savez(tree / "bad.npz", **changed)
    assert bridge.main(["tiny.py", "tiny.pth", "--inputs", "bad.npz", "-o", "dump.npz"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tree.glob("dump.npz*"))


def test_another_environment_is_one_line(
    bridge: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mmcv", None)
    assert bridge.main(["tiny.py", "tiny.pth", "--losses", "0", "-o", "losses.json"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "run this in the model's environment, in the root of its tree" in line


def test_no_file_is_replaced(bridge: ModuleType, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The checkpoint, for one."""
    assert bridge.main(["tiny.py", "tiny.pth", "--dataset", "0:2", "-o", "tiny.pth"]) == 2
    assert "tiny.pth already exists; choose another output" in capsys.readouterr().err
