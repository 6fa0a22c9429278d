"""ONNX Runtime with tensors bound to a device: what a GPU does with it, done here by the CPU's execution provider."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from toolkit.bundle import Bundle
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.engines.onnxruntime_device import DeviceOnnxRuntimeSession
from toolkit.errors import InputError
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.verification.observation import Observer

HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@pytest.fixture(scope="module")
def exported(converted: Path) -> Bundle:
    """The tiny network's bundle."""
    return Bundle.read(converted)


def test_a_sequence_equals_the_numpy_session_bit_by_bit(exported: Bundle, drive: list[dict[str, np.ndarray]]) -> None:
    """Every tensor of every frame, the state between frames included; the state is fed back as it is."""
    observers = [
        Observer(exported, session)
        for session in (
            OnnxRuntimeSession(exported, wires=exported.wires),
            DeviceOnnxRuntimeSession(exported, "cpu", wires=exported.wires),
        )
    ]
    for frame in drive:
        expected, actual = (observer.step(frame) for observer in observers)
        assert actual.inputs.keys() == expected.inputs.keys()
        assert actual.outputs.keys() == expected.outputs.keys()
        assert {"moved", "plan"} <= actual.outputs.keys()
        for seen, wanted in ((actual.inputs, expected.inputs), (actual.outputs, expected.outputs)):
            for name, array in wanted.items():
                np.testing.assert_array_equal(seen[name], array, err_msg=name)


def test_results_outlive_the_next_frame(exported: Bundle, drive: list[dict[str, np.ndarray]]) -> None:
    session = DeviceOnnxRuntimeSession(exported, "cpu")
    runner = TemporalRunner(exported, session)
    plans = [runner.step(frame)["plan"] for frame in drive]
    again = TemporalRunner(exported, OnnxRuntimeSession(exported))
    for plan, frame in zip(plans, drive, strict=True):
        np.testing.assert_array_equal(plan, again.step(frame)["plan"])


@pytest.mark.parametrize(("spoiled", "finite"), [(None, True), (np.nan, False), (np.inf, False), (-np.inf, False)])
def test_finite_is_found_out_on_the_device(exported: Bundle, spoiled: float | None, finite: bool) -> None:
    """In any tensor of any shape, and large values that would overflow in a sum are finite."""
    session = DeviceOnnxRuntimeSession(exported, "cpu")
    arrays = [np.full((2, 3), 3e38, np.float32), np.ones(1, np.float32), np.full((4, 1, 2), -3e38, np.float32)]
    if spoiled is not None:
        arrays[2][3, 0, 1] = spoiled
    tensors = [session.upload(array) for array in arrays]
    assert session.finite(tensors) is finite
    assert session.finite(tensors[:2])
    assert session.finite([])


@pytest.mark.skipif(not HAS_CUDA, reason="needs onnxruntime-gpu and a GPU")
def test_a_gpu_agrees(exported: Bundle, drive: list[dict[str, np.ndarray]]) -> None:
    sessions = (OnnxRuntimeSession(exported), DeviceOnnxRuntimeSession(exported))
    runners = [TemporalRunner(exported, session) for session in sessions]
    for frame in drive:
        expected, actual = (runner.step(frame)["plan"] for runner in runners)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(HAS_CUDA, reason="has the provider")
def test_a_missing_provider_says_what_to_install(exported: Bundle) -> None:
    with pytest.raises(InputError, match=r"has no CUDAExecutionProvider; .*pip install onnxruntime-gpu"):
        DeviceOnnxRuntimeSession(exported)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start_is_no_cpu_session(exported: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime itself would go on with the CPU's."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(InputError, match=r"cannot start CUDAExecutionProvider.*use --session onnxruntime"):
        DeviceOnnxRuntimeSession(exported)


def test_a_damaged_model_is_one_error(exported: Bundle, tmp_path: Path) -> None:
    (tmp_path / exported.onnx.name).write_bytes(b"no model")
    with pytest.raises(InputError, match=r"ONNX model .* cannot be read"):
        DeviceOnnxRuntimeSession(replace(exported, path=tmp_path), "cpu")
