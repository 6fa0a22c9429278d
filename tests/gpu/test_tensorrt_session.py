"""The GPU's part of a TensorRT session: CuPy memory, streams and CUDA graphs, with a plugin's kernel as the engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from custom_ops.inverse.op import INVERSE
from tests.tensorrt.engine_double import Device, double_tensorrt
from tests.tensorrt.stand_in import Tensor
from toolkit.engines.tensorrt.gpu import compute_capability
from toolkit.engines.tensorrt.session import TensorRTSession
from toolkit.engines.tensorrt.sidecar import EngineTensor
from toolkit.ops.kernel import load_cupy
from toolkit.ops.tensorrt_plugin import new_plugin

SHAPE = (2, 3, 3)


def test_capability_is_the_drivers() -> None:
    assert compute_capability() == "{}.{}".format(*torch.cuda.get_device_capability())


@pytest.fixture
def device() -> Device:
    """An engine with one layer, the plugin of `Inverse`: state -> next state."""
    described = [Tensor(SHAPE)]
    trt = double_tensorrt(Device(lambda bound, stream: None))
    plugin = new_plugin(trt, INVERSE, {})
    plugin.on_shape_change(described, described)

    def enqueue(bound: Mapping[str, int], stream: int) -> None:
        plugin.enqueue(described, described, [bound["state"]], [bound["next_state"]], 0, stream)

    return Device(enqueue)


def test_state_goes_round_in_graphs(device: Device, tmp_path: Path) -> None:
    """Ten frames: the plugin's kernel is captured for both sets of buffers, and is launched by graphs from then on."""
    (tmp_path / "m.engine").touch()
    tensors = [EngineTensor("state", "input", "float32", SHAPE), EngineTensor("next_state", "output", "float32", SHAPE)]
    session = TensorRTSession(double_tensorrt(device), load_cupy(), tmp_path / "m.engine", tensors)
    matrices = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32) + 3 * np.eye(3, dtype=np.float32)
    state = session.upload(matrices)
    for frame in range(10):
        state = session.run({"state": state})["next_state"]
        assert session.finite([state])
        expected = np.linalg.inv(matrices) if frame % 2 == 0 else matrices
        np.testing.assert_allclose(session.download(state), expected, rtol=1e-4, atol=1e-5)
    assert device.calls.count("execute_async_v3") == 5
    assert session.finite([])
    assert not session.finite([state, session.upload(np.array([np.inf], np.float32))])
