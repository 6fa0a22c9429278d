"""A plugin's submodule, with layers of several types and a custom op of its own, compiled and captured."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from toolkit.config.model import ModelConfig
from toolkit.engines.gpu.compiled.network import compile_network
from toolkit.engines.gpu.frame_graph import FrameGraph
from toolkit.network import Network
from toolkit.ops.template.op import new_op
from toolkit.precision import Precision
from toolkit.specs import Submodule, TensorSpec, frame_input
from toolkit.wiring import join

pytest.importorskip("cupy")


class Theirs(nn.Module):
    """Products in FP32, FP64 and FP16 of [32, 32] numbers, then the op that `new-op` writes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(32, 32, dtype=dtype) for dtype in (torch.float32, torch.float64, torch.float16)
        )

    def forward(self, rotation: Tensor) -> Tensor:
        x = rotation.repeat(11, 11)[:32, :32].clone()
        x.mul_(0.1)
        fp32, fp64, fp16 = self.layers
        x = fp32(x) + fp64(x.double()).float() + fp16(x.half()).float()
        gated: Tensor = new_op(x, 1.5)
        return gated


def test_it_computes_what_it_does_eagerly() -> None:
    """To the rounding of FP16, in which Inductor may keep sums of FP32."""
    submodule = Submodule(
        name="theirs",
        checkpoint_prefixes=("",),
        inputs=(frame_input("l2g_rotation"),),
        outputs=(TensorSpec("answer", (32, 32), "float32", "made up"),),
        build=lambda config: Theirs(),
        results=("answer",),
    )
    network = Network(join([submodule], ModelConfig())).cuda()
    inputs = {"l2g_rotation": torch.randn(3, 3, device="cuda")}
    with torch.inference_mode():
        graph = FrameGraph(compile_network(network, Precision.FP32), inputs)
        for scale in (1, 2):
            scaled = {name: scale * tensor for name, tensor in inputs.items()}
            torch.testing.assert_close(graph(scaled)["answer"], network(scaled)["answer"], rtol=0, atol=5e-3)
