"""From the six pictures of a real nuScenes frame to boxes in JSON, by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.bundle import Bundle
from toolkit.cli.main import run
from toolkit.data.frame_folder import write_frame
from toolkit.data.frames import Frame

pytestmark = pytest.mark.slow


def results(bundle: Bundle, frames: Path, output: Path, session: str) -> dict[str, Any]:
    assert run(["run", str(bundle.path), str(frames), "-o", str(output), "--session", session]) == 0
    (file,) = output.glob("*.json")
    values: dict[str, Any] = json.loads(file.read_text())
    assert file.with_suffix(".png").stat().st_size > 10_000
    assert file.with_suffix(".npz").is_file()
    return values


def test_both_sessions_agree_on_a_real_frame(bundle_a: Bundle, nuscenes_frame: Frame, tmp_path: Path) -> None:
    write_frame(nuscenes_frame, tmp_path / "frames")
    torch_says = results(bundle_a, tmp_path / "frames", tmp_path / "torch", "torch")
    onnx_says = results(bundle_a, tmp_path / "frames", tmp_path / "onnx", "onnxruntime")
    assert torch_says["boxes"], "the pseudo-trained weights find something in this picture"
    for one, other in zip(torch_says["boxes"], onnx_says["boxes"], strict=True):
        assert (one["track_id"], one["label"]) == (other["track_id"], other["label"])
        np.testing.assert_allclose(one["center"], other["center"], atol=1e-2)
    np.testing.assert_allclose(torch_says["plan"]["points"], onnx_says["plan"]["points"], atol=1e-3)
