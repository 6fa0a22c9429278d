"""The sessions on a GPU, with the CUDA kernels, equal the reference in FP32 without TF32."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from plugins.motion.anchors import load_motion_anchors
from tests.conftest import load_script
from tests.golden_runs import GoldenSequence
from toolkit.bundle import Bundle
from toolkit.config.model import ModelConfig
from toolkit.engines.gpu.session import CudaGraphSession
from toolkit.engines.session import Session
from toolkit.engines.torch import TorchSession
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.reference_interface.replay import replay
from toolkit.reference_interface.tensors import has_no_effect
from toolkit.wiring import join


@pytest.mark.parametrize("open_session", [partial(TorchSession, device="cuda"), CudaGraphSession.of_network])
@pytest.mark.parametrize("seed", ["A", "C"])
def test_sequence_equals_the_reference(
    seed: str, open_session: Callable[[Network], Session], golden: Path, plugins: PluginManager
) -> None:
    """Integers identical, floats within the reference's own noise, over all frames with state fed back."""
    assert not torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    config = ModelConfig()
    network = Network(join(plugins.submodules(), config))
    weights = load_script(golden / "pseudo_checkpoint.py").make_state_dict(
        str(golden / "state_dict_manifest.json"), seed
    )
    anchors = load_motion_anchors(golden / "motion_anchor_infos_mode6.pkl", config)
    network.load_weights(weights | {"motion_head.motion_anchors": torch.from_numpy(anchors)})
    bundle = Bundle.of_graph(
        Path(), network.graph, submodules=(), custom_ops=(), files={}, sha256={}, provenance={}, parity={}
    )
    reference = GoldenSequence.load(golden, seed)
    frames = load_script(golden / "make_inputs.py").make_inputs(seed)
    official = [{k: v for k, v in frame.items() if not has_no_effect(k)} for frame in frames]
    faults = []
    for number, outputs in enumerate(replay(bundle, open_session(network), official)):
        faults += reference.mismatches(number, outputs)
    assert faults == []
