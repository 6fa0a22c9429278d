"""A pinned extract that runs anywhere: demonstration weights over made-up frames, state fed back.

`python -m tests.test_extract` writes the extract anew, after a change that is meant to alter the network's outputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from toolkit.bundle import Bundle
from toolkit.config.model import CanBusRotation, ModelConfig
from toolkit.data.probe import probe_frames
from toolkit.demo.pseudo_weights import pseudo_motion_anchors, pseudo_trained_weights
from toolkit.engines.torch import TorchSession
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.wiring import join

pytestmark = [pytest.mark.slow, pytest.mark.parity]

EXTRACT = Path(__file__).parent / "data" / "extract.npz"
FRAMES, SCENE_CHANGE = 3, 2
TOLERANCE = 1e-3
"""Metres, or score: another number of threads, and so another order of summation, changes up to 6e-5."""


def run_extract() -> dict[str, np.ndarray]:
    """Boxes, scores, ids and plan of each frame."""
    config = ModelConfig(can_bus_rotation=CanBusRotation.QUATERNION)  # as when the extract was made
    network = Network(join(PluginManager.load().submodules(), config))
    anchors = torch.from_numpy(pseudo_motion_anchors(config))
    network.load_weights(pseudo_trained_weights(network) | {"motion_head.motion_anchors": anchors})
    bundle = Bundle.of_graph(
        Path(), network.graph, submodules=(), custom_ops=(), files={}, sha256={}, provenance={}, parity={}
    )
    runner = TemporalRunner(bundle, TorchSession(network))
    arrays: dict[str, np.ndarray] = {}
    for number, frame in enumerate(probe_frames(config, FRAMES, SCENE_CHANGE)):
        results = runner.step(frame)
        count = int(results["box_count"][0])
        arrays |= {f"f{number}.{name}": results[name][:count] for name in ("boxes", "box_scores", "box_ids")}
        arrays[f"f{number}.plan"] = results["plan"]
    return arrays


def test_network_reproduces_the_extract() -> None:
    """Ids and their order are identical; boxes, scores and plan are equal within rounding."""
    actual = run_extract()
    with np.load(EXTRACT) as expected:
        assert set(expected.files) == set(actual)
        assert sum(len(expected[f"f{number}.box_ids"]) for number in range(FRAMES)) > 0
        for name in expected.files:
            tolerance = TOLERANCE if expected[name].dtype.kind == "f" else 0
            np.testing.assert_allclose(actual[name], expected[name], atol=tolerance, rtol=0, err_msg=name)


if __name__ == "__main__":
    with torch.inference_mode():
        arrays: dict[str, Any] = run_extract()
        np.savez_compressed(EXTRACT, **arrays)
