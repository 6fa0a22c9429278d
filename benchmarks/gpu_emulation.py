"""The precisions of the cuda session without a GPU.

On a CPU the operators of the compiled network round the factors of their products as the kernels do
(toolkit/engines/gpu/compiled/operators.py). Two things are not emulated: tensor cores truncate what they add to a sum,
and in TF32 the GPU's libraries round the factors of the products that are left to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from toolkit.bundle import Bundle
from toolkit.engines.gpu.compiled.network import NetworkFunction, compile_network, compile_parts
from toolkit.engines.gpu.kept import Warn, bundle_parts
from toolkit.engines.torch import all_finite, bundle_graph
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision

CPU = torch.device("cpu")


class EmulatedSession:
    """The compiled network on the CPU, without torch.compile."""

    name = "emulated"

    def __init__(self, function: NetworkFunction) -> None:
        self._function = function

    @classmethod
    def of_network(cls, network: Network, *, precision: Precision = Precision.FP32) -> EmulatedSession:
        """A network on the CPU. Raises InputError as `compile_network` does."""
        return cls(compile_network(network, precision, inductor=False))

    @classmethod
    def of_bundle(cls, bundle: Bundle, plugins: PluginManager, precision: Precision, warn: Warn) -> EmulatedSession:
        """A bundle's network, rewritten now or before, as of the cuda session. Raises InputError as `bundle_parts`."""
        parts, _ = bundle_parts(bundle, plugins, precision, CPU, warn=warn)
        return cls(compile_parts(parts, bundle_graph(bundle, plugins), inductor=False))

    def upload(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.inference_mode():
            return self._function(inputs)

    def download(self, tensor: Tensor) -> np.ndarray:
        array: np.ndarray = tensor.numpy()
        return array

    def finite(self, tensors: Iterable[Tensor]) -> bool:
        return bool(all_finite(tensors))
