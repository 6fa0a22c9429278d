"""The precisions of the cuda session without a GPU.

On a CPU the operators of the compiled network round the factors of their products as the kernels do
(toolkit/engines/gpu/compiled/operators.py). Two things are not emulated: tensor cores truncate what they add to a sum,
and in TF32 the GPU's libraries round the factors of the products that are left to them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from toolkit.engines.gpu.compiled.network import compile_network
from toolkit.engines.torch import TorchSession
from toolkit.network import Network
from toolkit.precision import Precision


class EmulatedSession(TorchSession):
    """The compiled network on the CPU, without torch.compile."""

    name = "emulated"

    def __init__(self, network: Network, precision: Precision) -> None:
        super().__init__(network)
        self._function = compile_network(network, precision, inductor=False)

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            return self._function(inputs)
