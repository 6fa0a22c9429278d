"""`uniad-toolkit verify`: which frames and sessions it takes, what it writes, and how it ends."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from toolkit.bundle import WEIGHTS, Bundle
from toolkit.cli.sessions import require_precision
from toolkit.cli.verify import session_names, verify_command
from toolkit.engines.torch import TorchSession
from toolkit.errors import CheckFailed, InputError
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.storage.files import sha256_file
from toolkit.verification.sequence import official_sequence, probe_sequence

Verify = Callable[..., Any]


@pytest.fixture
def verify(converted: Path, tiny_plugins: PluginManager) -> Verify:
    """Runs the command over the converted bundle, unless another is given."""
    defaults = {
        "bundle": converted,
        "frames": None,
        "inputs": None,
        "sessions": "torch,onnxruntime",
        "precision": Precision.FP32,
        "length": 2,
        "output": None,
    }

    def run(**options: Any) -> None:
        context: Any = SimpleNamespace(obj=tiny_plugins)
        verify_command(context, **defaults | options)

    return run


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """Official tensors of three frames."""
    arrays: dict[str, Any] = {}
    for number in range(3):
        frame = {
            "l2g_r_mat": np.eye(3, dtype=np.float32)[None],
            "l2g_t": np.array([[3 * number, 4 * number, 0]], np.float32),
            "command": np.array([2], np.float32),
            "use_prev_bev": np.array([number > 0], np.int32),
        }
        arrays |= {f"f{number}.in.{name}": array for name, array in frame.items()}
    np.savez(tmp_path / "inputs.npz", **arrays)
    return tmp_path / "inputs.npz"


def test_bundle_alone_is_enough(verify: Verify, capsys: pytest.CaptureFixture[str]) -> None:
    verify()
    out = capsys.readouterr().out
    assert "onnxruntime against torch: worst of 2 frames, fp32" in " ".join(out.split())
    assert "onnxruntime agrees with torch" in out


def test_divergence_ends_with_a_report(verify: Verify, converted: Path, tmp_path: Path) -> None:
    """Here the weights no longer belong to the ONNX model. The report says so and is written all the same."""
    shutil.copytree(converted, tmp_path / "bundle")
    weights = load_file(tmp_path / "bundle" / WEIGHTS)
    save_file(weights | {"planner.weight": weights["planner.weight"] + 1}, tmp_path / "bundle" / WEIGHTS)
    copy = Bundle.read(tmp_path / "bundle")
    replace(copy, sha256={**copy.sha256, WEIGHTS: sha256_file(copy.weights)}).write()
    with pytest.raises(CheckFailed, match=r"first at frame 0, submodule 'planner'.*; made in frame 0 by .* 'planner'"):
        verify(bundle=tmp_path / "bundle", output=tmp_path / "report.json")
    [report] = json.loads((tmp_path / "report.json").read_text())
    assert (report["candidate"], report["passed"]) == ("onnxruntime", False)
    assert report["diagnosis"]["suspects"] == ["planner"]


def test_official_tensors(verify: Verify, official: Path, tmp_path: Path) -> None:
    verify(inputs=official, length=None, output=tmp_path / "report.json")
    [report] = json.loads((tmp_path / "report.json").read_text())
    assert report["frames"] == 3
    assert [decisions["plan"]["expected"] for decisions in report["decisions"]] == pytest.approx([0, 10, 10])


def test_any_session_can_be_the_reference(verify: Verify, capsys: pytest.CaptureFixture[str]) -> None:
    verify(sessions="onnxruntime,torch")
    assert "torch agrees with onnxruntime" in capsys.readouterr().out


@pytest.fixture
def rounded_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of `--session cuda`, which needs a GPU: torch's session, with plans that are off by 5 cm."""

    class RoundedSession(TorchSession):
        def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            outputs = super().run(inputs)
            return outputs | {"plan": outputs["plan"] + torch.tensor([0.0, 0.05])}

    def open_without_gpu(bundle: Bundle, kind: str, plugins: PluginManager, **options: Any) -> TorchSession:
        return (RoundedSession if kind == "cuda" else TorchSession).of_bundle(bundle, plugins)

    monkeypatch.setattr("toolkit.cli.verify.open_session", open_without_gpu)


@pytest.mark.usefixtures("rounded_cuda")
@pytest.mark.parametrize("sessions", ["torch,cuda", "cuda,torch"])
def test_reduced_precision_is_judged_by_sense(
    sessions: str, verify: Verify, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever of the two sessions has it."""
    verify(sessions=sessions, precision=Precision.FP16, output=tmp_path / "report.json")
    out = " ".join(capsys.readouterr().out.split())
    names = sessions.replace("cuda", "cuda fp16").split(",")
    assert f"{names[1]} against {names[0]}: worst of 2 frames, fp16; bounds are those of fp32" in out
    assert f"{names[1]} agrees with {names[0]} within the bounds of sense" in out
    [report] = json.loads((tmp_path / "report.json").read_text())
    assert (report["precision"], report["passed"], report["first_divergence"]) == ("fp16", True, None)


@pytest.mark.usefixtures("rounded_cuda")
def test_full_precision_is_judged_by_tolerances(verify: Verify) -> None:
    with pytest.raises(CheckFailed, match="cuda diverges from torch first at frame 0, submodule 'planner'"):
        verify(sessions="torch,cuda")


def test_one_source_of_frames(verify: Verify, official: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--frames and --inputs are both given; choose one"):
        verify(frames=tmp_path, inputs=official)


def test_length_cuts_a_sequence(bundle: Bundle, official: Path) -> None:
    assert len(list(official_sequence(bundle, official, 2).frames)) == 2
    with pytest.raises(InputError, match=r"inputs\.npz holds 3 frames, fewer than --length 4; lower it or leave it"):
        official_sequence(bundle, official, 4)


def test_probe_changes_scene_once(bundle: Bundle) -> None:
    """So that a verification covers both beginnings, and history in between."""
    continues = [int(frame["use_previous"][0]) for frame in probe_sequence(bundle, 3).frames]
    assert continues == [0, 1, 0]


def test_session_names() -> None:
    assert session_names("torch, onnxruntime") == ["torch", "onnxruntime"]
    with pytest.raises(InputError, match=r"--sessions names 'tensorflow'; known are onnxruntime, .*cuda, tensorrt"):
        require_precision(Precision.FP32, session_names("torch,tensorflow"), PluginManager.load(), "--sessions")
    with pytest.raises(InputError, match="--sessions torch leaves nothing to compare with"):
        session_names("torch")
