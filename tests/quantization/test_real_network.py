"""The toolkit's own network, small: quantized by measurement on a drive, state and tracks fed back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.corpus.case import Sample
from tests.corpus.sample import PIXELS, make_frame, make_sample
from tests.quantization.test_fake import quantized
from tests.session_cache import SessionCache
from toolkit.bundle import Bundle
from toolkit.cli.main import run
from toolkit.data.frame_folder import write_frame
from toolkit.data.probe import probe_frames
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.plugin.manager import PluginManager
from toolkit.quantization.gates import judge
from toolkit.quantization.record import QuantizationRecord
from toolkit.quantization.scheme import QuantizationMode
from toolkit.quantization.seen import watch
from toolkit.quantization.trials import drive_in_fp32, written

pytestmark = [pytest.mark.slow, pytest.mark.thorough]


def make_frames(folder: Path) -> Path:
    """Two scenes of five frames; pictures are noise, bright in one half."""
    random = np.random.default_rng(0)
    for number in range(10):
        frame = make_frame(number)
        cameras = {}
        for name, view in frame.cameras.items():
            picture = random.integers(0, 100, (PIXELS, PIXELS, 3))
            picture[:, PIXELS // 2 :] += 120
            cameras[name] = replace(view, image=picture.astype(np.uint8))
        write_frame(replace(frame, scene=f"scene{number // 5}", cameras=cameras), folder)
    return folder


def test_the_network_still_drives(conversions: SessionCache, tmp_path: Path) -> None:
    sample = Sample(conversions.once("sample", make_sample))
    frames, output = make_frames(tmp_path / "frames"), tmp_path / "quantized"
    assert run(["quantize", str(sample.bundle), "--calibration", str(frames), "-o", str(output), "--threads", "1"]) == 0
    bundle = Bundle.read(output)
    record = QuantizationRecord.read(bundle)
    assert record is not None
    assert record.layers
    assert all(finding.holds for finding in record.gates)
    assert {finding.subject for finding in record.gates} >= {"plan", "occupied cells", "lanes"}
    assert run(["run", str(output), str(frames), "-o", str(tmp_path / "results"), "--no-pictures"]) == 0
    sessions = ["--sessions", "torch,onnxruntime"]
    assert run(["verify", str(output), "--frames", str(frames), *sessions]) == 0
    assert run(["inspect", str(output)]) == 0


def test_the_state_does_not_drift(conversions: SessionCache, tmp_path: Path) -> None:
    """Forty frames, all layers in INT8, each network with its own state: every norm stays in its bound."""
    bundle, plugins = Bundle.read(Sample(conversions.once("sample", make_sample)).bundle), PluginManager.load()
    made = quantized(bundle, plugins, QuantizationMode.INT8, tmp_path)
    frames = probe_frames(bundle.config, 40, scene_change=40)
    expected = drive_in_fp32(bundle, plugins.submodules(), frames, threads=1)
    with written(made.model, bundle, tmp_path) as other:
        session = OnnxRuntimeSession(other, threads=1)
    findings = judge(expected, list(watch(bundle, session, plugins.submodules(), frames)))
    states = [finding for finding in findings if finding.subject.startswith("state ")]
    assert len(states) == 3
    assert all(finding.holds for finding in states), states
