"""A dump of the official network in its own environment verifies; one of another network is told apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.bundle import Bundle
from toolkit.cli.main import run
from toolkit.engines.torch import TorchSession, load_network
from toolkit.plugin.manager import PluginManager
from toolkit.reference_interface.dump import read_dump
from toolkit.verification.bisection import Origin
from toolkit.verification.recording import recorded_frames
from toolkit.verification.verify import verify_recording

pytestmark = [pytest.mark.slow, pytest.mark.parity]

CHANGED = "planning_head.reg_branch.2.bias"


@pytest.fixture(scope="module")
def dump(golden: Path) -> Path:
    """Two frames with everything but the pictures."""
    return golden / "bridge" / "dump_official_seedA.npz"


@pytest.fixture(scope="module")
def inputs(frame_inputs_a: list[dict[str, np.ndarray]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same two frames with their pictures, as `replay` takes them."""
    arrays: dict[str, Any] = {}
    for number, frame in enumerate(frame_inputs_a[:2]):
        arrays |= {f"f{number}.in.{name}": array for name, array in frame.items()}
    path = tmp_path_factory.mktemp("inputs") / "inputs.npz"
    np.savez(path, **arrays)
    return path


def test_official_dump_verifies(bundle_a: Bundle, dump: Path, inputs: Path, tmp_path: Path) -> None:
    """On both sessions, on every tensor that it holds, within the tolerances of `verify`."""
    report = tmp_path / "report.json"
    arguments = ["verify", bundle_a.path, "--against", dump, "--inputs", inputs, "--json", report]
    assert run([str(argument) for argument in arguments]) == 0
    torch_says, onnx_says = json.loads(report.read_text())
    assert (torch_says["candidate"], onnx_says["candidate"]) == ("torch", "onnxruntime")
    for says in (torch_says, onnx_says):
        assert (says["passed"], says["frames"]) == (True, 2)
        compared = {comparison["tensor"] for comparison in says["comparisons"]}
        assert {"bev", "track_query", "track_memory", "boxes", "motion_trajectories", "occupancy", "plan"} <= compared
        assert [d["tracks"]["expected"] for d in says["decisions"]] == [16, 13]
        assert all(d["tracks"]["moved"] < 1e-3 and d["plan"]["moved"] < 1e-4 for d in says["decisions"])


def test_one_changed_weight_is_named(
    bundle_a: Bundle, plugins: PluginManager, dump: Path, frame_inputs_a: list[dict[str, np.ndarray]]
) -> None:
    """By the submodule that has it."""
    network = load_network(bundle_a, plugins)
    network.weights()[CHANGED][0] += 0.1
    session = TorchSession(network)
    frames = recorded_frames(read_dump(dump), bundle_a, 1, [{"image": frame_inputs_a[0]["img"][0].astype(np.float32)}])
    [report], _ = verify_recording(bundle_a, "dump", frames, [session], lambda: session)
    failure = report.failure()
    assert failure is not None
    assert report.diagnosis is not None
    assert (report.diagnosis.origin, report.diagnosis.suspects[0]) == (Origin.SUBMODULE, "planning")


SETTINGS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "yaw of v2.0": (
        lambda arrays: arrays.update(meta=np.array(json.dumps({"yaw_convention": "heading"}))),
        "convert again with --yaw-convention heading",
    ),
    "whole quaternion": (
        lambda arrays: arrays.update(meta=np.array(json.dumps({"can_bus_rotation": "quaternion"}))),
        "convert again with --can-bus-rotation quaternion",
    ),
    "shuffled cameras": (
        lambda arrays: arrays.update(meta=np.array(json.dumps({"cameras": ["CAM_BACK", "CAM_FRONT"]}))),
        "convert again with image.cameras = ['CAM_BACK', 'CAM_FRONT']",
    ),
    "another checkpoint": (
        lambda arrays: arrays.update(meta=np.array(json.dumps({"checkpoint_sha256": "0" * 64}))),
        "convert the former, or dump with the latter",
    ),
}


@pytest.mark.parametrize(("change", "remedy"), SETTINGS.values(), ids=SETTINGS)
def test_another_setting_is_one_line(
    change: Callable[[dict[str, Any]], object],
    remedy: str,
    bundle_a: Bundle,
    dump: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is run."""
    with np.load(dump) as archive:
        arrays: dict[str, Any] = dict(archive)
    change(arrays)
    np.savez(tmp_path / "dump.npz", **arrays)
    assert run(["verify", str(bundle_a.path), "--against", str(tmp_path / "dump.npz")]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning")]
    assert len(errors) == 1
    assert errors[0].endswith(remedy)
