"""Ranges of a bundle's tensors over a drive, state fed back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.quantization.camera_network import CONFIG, SIDE, WIDTH, make_frames
from tests.toolkit.toy_bundle import toy_frame
from toolkit.bundle import Bundle
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.errors import CheckFailed, InputError
from toolkit.graph.model_file import read_model
from toolkit.plugin.manager import PluginManager
from toolkit.quantization.calibration import Collected, collect
from toolkit.quantization.calibration_file import Calibration, reused
from toolkit.quantization.candidates import find_candidates, plain_model, tensors_to_calibrate
from toolkit.quantization.drive import Drive, open_drive, require_calibratable
from toolkit.quantization.insert import quantize_model
from toolkit.quantization.methods import Method
from toolkit.quantization.ranges import ranges_of
from toolkit.quantization.scheme import QuantizationMode, Scheme
from toolkit.quantization.trials import written
from toolkit.runtime.temporal_runner import TemporalRunner

TENSORS = ("image", "prev_memory", "memory")
"""A frame input, a state input, and a result."""


@pytest.fixture(scope="module")
def drive(camera_bundle: Bundle, camera: PluginManager, camera_frames: Path) -> Drive:
    return open_drive(camera_bundle, str(camera_frames), camera.frame_sources(), print)


@pytest.fixture(scope="module")
def collected(camera_bundle: Bundle, drive: Drive) -> Collected:
    return collect(camera_bundle, TENSORS, drive, threads=1)


def driven(frames: int, scenes: int = 1) -> Drive:
    """Frames that are never run, in scenes of equal length."""
    return Drive("frames", tuple(toy_frame(i, f"scene{i * scenes // frames}") for i in range(frames)), CONFIG)


def test_state_has_the_range_that_it_has_in_use(camera_bundle: Bundle, drive: Drive, collected: Collected) -> None:
    """Not that of zeros, which a single frame would show."""
    runner = TemporalRunner(camera_bundle, OnnxRuntimeSession(camera_bundle))
    memories = [runner.step(frame, ["memory"])["memory"] for frame in drive]
    seen, fed = collected.histograms["memory"], collected.histograms["prev_memory"]
    assert (seen.low, seen.high) == (np.min(memories), np.max(memories))
    assert fed.high == np.max(memories[:-1])
    assert seen.count == len(drive) * WIDTH * SIDE * SIDE


def test_a_tensor_within_a_submodule_can_be_seen(camera_bundle: Bundle, drive: Drive) -> None:
    inner = "eyes/relu"
    assert collect(camera_bundle, (inner,), drive).histograms[inner].low == 0


def test_a_tensor_that_is_not_there_is_an_error(camera_bundle: Bundle, drive: Drive) -> None:
    with pytest.raises(InputError, match="ONNX Runtime cannot load"):
        collect(camera_bundle, ("eyes/nothing",), drive)


def test_values_that_are_not_finite_have_no_range(camera_bundle: Bundle, drive: Drive) -> None:
    broken = ({**frame, "image": frame["image"] * np.float32("inf")} for frame in drive)
    with pytest.raises(CheckFailed, match=r"tensor 'image' holds values that are not finite in FP32"):
        collect(camera_bundle, ("image",), broken)


def test_a_calibration_is_read_as_it_was_written(
    camera_bundle: Bundle, drive: Drive, collected: Collected, tmp_path: Path
) -> None:
    calibration = Calibration.of(camera_bundle, drive, collected, QuantizationMode.INT8, Method.MSE)
    calibration.write(tmp_path / "calibration.json")
    assert Calibration.read(tmp_path / "calibration.json") == calibration
    document = json.loads((tmp_path / "calibration.json").read_text())
    assert document.pop("format") == 1
    assert ranges_of(document) == calibration.ranges
    assert (calibration.source.frames, calibration.source.scenes) == (10, 2)
    again = reused(tmp_path / "calibration.json", camera_bundle, drive, QuantizationMode.INT8, Method.MSE)
    assert again == calibration


def test_another_calibration_is_not_reused(
    camera_bundle: Bundle, drive: Drive, collected: Collected, tmp_path: Path
) -> None:
    path = tmp_path / "calibration.json"
    Calibration.of(camera_bundle, drive, collected, QuantizationMode.INT8, Method.MSE).write(path)
    other = replace(camera_bundle, sha256={"model.onnx": "0" * 64})
    with pytest.raises(InputError, match="is a calibration of another bundle"):
        reused(path, other, drive, QuantizationMode.INT8, Method.MSE)
    with pytest.raises(InputError, match="is a calibration of other frames"):
        reused(path, camera_bundle, driven(9), QuantizationMode.INT8, Method.MSE)
    with pytest.raises(InputError, match="is a calibration for int8"):
        reused(path, camera_bundle, drive, QuantizationMode.FP8, Method.MSE)
    with pytest.raises(InputError, match="is a calibration by the method mse"):
        reused(path, camera_bundle, drive, QuantizationMode.INT8, Method.MAX)


def test_too_few_frames() -> None:
    with pytest.raises(InputError, match="frames holds 7 frames; calibrate on at least 8"):
        require_calibratable(driven(7))


def test_a_scene_of_one_frame() -> None:
    drive = driven(8)
    alone = replace(drive, frames=(*drive.frames, toy_frame(8, "alone")))
    with pytest.raises(InputError, match="scene 'alone' has one frame, after which no state is fed back"):
        require_calibratable(alone)


def test_frames_that_are_all_alike() -> None:
    """Different poses and times do not make up for pictures."""
    picture = toy_frame(0, "scene").cameras
    same = Drive("frames", tuple(replace(toy_frame(i, "scene"), cameras=picture) for i in range(8)), CONFIG)
    with pytest.raises(InputError, match="only 1 of 8 frames differ in their pictures"):
        require_calibratable(same)


def test_frames_that_differ_are_taken(camera_frames: Path, drive: Drive, tmp_path: Path) -> None:
    require_calibratable(drive)
    require_calibratable(driven(8, scenes=4))
    assert make_frames(tmp_path / "again").is_dir()


@pytest.mark.parametrize("mode", QuantizationMode)
def test_the_session_computes_what_the_codes_mean(
    mode: QuantizationMode, camera_bundle: Bundle, drive: Drive, tmp_path: Path
) -> None:
    """Also with FP8 after a Relu, which an optimizer of ONNX Runtime would take away."""
    plain = plain_model(read_model(camera_bundle.onnx), ())
    candidates = find_candidates(plain, ())
    with written(plain, camera_bundle, tmp_path) as prepared:
        counted = collect(prepared, tensors_to_calibrate(candidates), drive)
    ranges = Calibration.of(camera_bundle, drive, counted, mode, Method.MAX).ranges
    quantized = quantize_model(plain, ranges, Scheme(mode, keep=("driver",))).model
    first = next(iter(drive))
    with written(quantized, camera_bundle, tmp_path) as candidate:
        sessions = [OnnxRuntimeSession(bundle) for bundle in (camera_bundle, candidate)]
        expected, actual = (TemporalRunner(camera_bundle, s).step(first, ["memory"])["memory"] for s in sessions)
    assert np.linalg.norm(actual - expected) < 0.06 * np.linalg.norm(expected)
