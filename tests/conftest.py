"""Fixtures over the golden data of the reference implementation.

The golden data lies beside the repository (``../shared``) or where UNIAD_SHARED points; without it the tests that
need it skip.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from plugins.motion.anchors import load_motion_anchors
from tests.session_cache import SessionCache
from toolkit.bundle import Bundle
from toolkit.config.model import ModelConfig
from toolkit.conversion.convert import convert
from toolkit.data.frames import CameraView, Command, Frame, Pose
from toolkit.plugin.manager import PluginManager
from toolkit.specs import Submodule
from toolkit.storage.untrusted import load_numpy_pickle

SHARED = Path(os.environ.get("UNIAD_SHARED", Path(__file__).parents[2] / "shared"))
IMPLIED_MARKS = {"conversions": "converts", "state_dict_a": "slow"}
"""The marks of tests that ask for a fixture, be it through others."""
torch.set_grad_enabled(False)
os.environ["UNIAD_TOOLKIT_KEPT"] = ""  # the user's cache is not for tests


def load_script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they ask for, and put slow files first, so that no process is left alone with one."""
    for item in items:
        for fixture in IMPLIED_MARKS.keys() & getattr(item, "fixturenames", ()):
            item.add_marker(IMPLIED_MARKS[fixture])
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def conversions(tmp_path_factory: pytest.TempPathFactory) -> SessionCache:
    """Converted models that the processes of a run share; tests that ask for it bear the mark `converts`."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "conversions"
    folder.mkdir(exist_ok=True)
    return SessionCache(folder)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden data; skips where it is absent."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"golden data not found under {SHARED}; set UNIAD_SHARED to its folder")
    return SHARED / "golden"


@pytest.fixture(scope="session")
def state_dict_a(golden: Path) -> dict[str, torch.Tensor]:
    """The 2,011 pseudo-trained weights with which golden sequence A was made."""
    weights: dict[str, torch.Tensor] = load_script(golden / "pseudo_checkpoint.py").make_state_dict(
        str(golden / "state_dict_manifest.json"), "A"
    )
    return weights


@pytest.fixture(scope="session")
def plugins() -> PluginManager:
    """The toolkit's own plugins."""
    return PluginManager.load()


@pytest.fixture(scope="session")
def convert_seed(golden: Path, plugins: PluginManager, conversions: SessionCache) -> Callable[[str], Bundle]:
    """By seed ("A", "C"): the bundle of a golden sequence's pseudo-trained checkpoint, converted once per run."""

    def make(seed: str, folder: Path) -> None:
        script, manifest = load_script(golden / "pseudo_checkpoint.py"), str(golden / "state_dict_manifest.json")
        torch.save({"state_dict": script.make_state_dict(manifest, seed), "meta": {"seed": seed}}, folder / "seed.pth")
        anchors = load_motion_anchors(golden / "motion_anchor_infos_mode6.pkl", ModelConfig())
        assets = {"motion_head.motion_anchors": anchors}
        bundle = convert(folder / "seed.pth", folder / "bundle", plugins, assets=assets)
        assert Bundle.read(bundle.path) == bundle

    return lambda seed: Bundle.read(conversions.once(f"seed{seed}", partial(make, seed)) / "bundle")


@pytest.fixture(scope="session")
def bundle_a(convert_seed: Callable[[str], Bundle]) -> Bundle:
    """The bundle of sequence A's checkpoint."""
    return convert_seed("A")


@pytest.fixture(scope="session")
def frame_inputs_a(golden: Path) -> list[dict[str, np.ndarray]]:
    """External inputs of golden sequence A under their official names."""
    frames: list[dict[str, np.ndarray]] = load_script(golden / "make_inputs.py").make_inputs("A")
    return frames


@pytest.fixture(scope="session")
def intermediates(golden: Path) -> dict[str, np.ndarray]:
    """120 named intermediates of frame 2 of sequence A, its recurrent inputs (``in.*``) and outputs (``out.*``)."""
    named = dict(np.load(golden / "golden_seedA_submodules.npz"))
    with np.load(golden / "golden_seedA.npz") as sequence:
        named |= {key[3:]: sequence[key] for key in sequence.files if key.startswith(("f2.out.", "f2.in.", "f2.aux."))}
    return named


@pytest.fixture(scope="session")
def noise(golden: Path) -> dict[str, float]:
    """The reference's own max |float32 - float64| of each named intermediate (see `intermediates`)."""
    table: dict[str, Any] = json.loads((golden / "noise_submodules_seedA.json").read_text())
    return {name: entry["cmp"][0] for name, entry in table.items() if isinstance(entry["cmp"], list)}


@pytest.fixture(scope="session")
def close(intermediates: dict[str, np.ndarray], noise: dict[str, float]) -> Callable[..., None]:
    """Check that a tensor equals the golden intermediate of that name within 10 times the reference's noise."""

    def check(name: str, actual: Any) -> None:
        expected = intermediates[name]
        actual = np.asarray(actual).reshape(expected.shape)
        tolerance = 10 * noise[name] + 1e-6
        error = np.abs(actual.astype(np.float64) - expected).max()
        assert error <= tolerance, f"{name}: max error {error:.3g} exceeds {tolerance:.3g}"

    return check


@pytest.fixture(scope="session")
def build_submodule(state_dict_a: dict[str, torch.Tensor]) -> Callable[..., nn.Module]:
    """A submodule, and its assets by state-dict key, to its module with the weights of sequence A."""

    def build(submodule: Submodule, config: ModelConfig | None = None, **assets: torch.Tensor) -> nn.Module:
        module = submodule.build(config or ModelConfig()).eval()
        weights = {k: v for k, v in state_dict_a.items() if k.startswith(submodule.checkpoint_prefixes)}
        module.load_state_dict(weights | assets, strict=True)
        return module

    return build


def pose(matrix: Any) -> Pose:
    matrix = np.array(matrix)
    return Pose.from_matrix(matrix[:3, :3], matrix[:3, 3])


@pytest.fixture(scope="session")
def nuscenes_folder(golden: Path) -> Path:
    """Pictures, annotation and preprocessed pictures of a real nuScenes frame."""
    return golden.parent / "data" / "nuscenes_frame"


@pytest.fixture(scope="session")
def nuscenes_info(nuscenes_folder: Path) -> dict[str, Any]:
    """The annotation."""
    data = (nuscenes_folder / "n015-2018-07-24-11-22-45+0800.pkl").read_bytes()
    frame: dict[str, Any] = load_numpy_pickle(data)["data_list"][0]
    return frame


@pytest.fixture(scope="session")
def nuscenes_frame(nuscenes_folder: Path, nuscenes_info: dict[str, Any]) -> Frame:
    """The real frame as the toolkit sees it."""
    views = {
        name: CameraView(
            nuscenes_folder / entry["img_path"], np.array(entry["cam2img"]), pose(np.linalg.inv(entry["lidar2cam"]))
        )
        for name, entry in nuscenes_info["images"].items()
    }
    return Frame(
        name=nuscenes_info["token"],
        scene="scene-0061",
        timestamp=0.0,
        cameras=views,
        lidar2ego=pose(nuscenes_info["lidar_points"]["lidar2ego"]),
        ego2global=pose(nuscenes_info["ego2global"]),
        command=Command.STRAIGHT,
    )
