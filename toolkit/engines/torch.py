"""The eager network as a session: the reference that every other session is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from toolkit.bundle import Bundle
from toolkit.errors import InputError
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.specs import Submodule
from toolkit.text import one_line
from toolkit.weights.checkpoint import match_weights
from toolkit.wiring import NetworkGraph, join


class TorchSession:
    """Runs a `Network`; tensors are torch tensors on `device`. Every submodule output is an output."""

    name = "torch"

    def __init__(self, network: Network, device: str = "cpu") -> None:
        self._network = network.to(device)
        self._device = torch.device(device)

    @classmethod
    def of_bundle(cls, bundle: Bundle, plugins: PluginManager, device: str = "cpu") -> TorchSession:
        """Rebuild the network from a bundle. Raises InputError if a submodule's plugin is not loaded or has changed."""
        return cls(load_network(bundle, plugins), device)

    def beside(self, count: int) -> Sequence[TorchSession]:
        return [self] * count  # a frame leaves nothing behind in it

    def upload(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.inference_mode():
            outputs: dict[str, Tensor] = self._network(inputs)
        return outputs

    @property
    def submodules(self) -> tuple[Submodule, ...]:
        """Those of the network, in execution order."""
        return self._network.graph.submodules

    def run_submodule(self, submodule: Submodule, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of one submodule alone, whose inputs are among `inputs`."""
        with torch.inference_mode():
            return self._network.run_submodule(submodule, inputs)

    def download(self, tensor: Tensor) -> np.ndarray:
        array: np.ndarray = tensor.cpu().numpy()
        return array

    def finite(self, tensors: Iterable[Tensor]) -> bool:
        # One answer leaves the device, not one a tensor.
        return bool(all_finite(tensors))


def load_network(bundle: Bundle, plugins: PluginManager) -> Network:
    """The network of a bundle, rebuilt. Raises InputError if a submodule's plugin is not loaded or has changed."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    network = Network(bundle_graph(bundle, plugins))
    try:
        weights = load_file(bundle.weights)
    except SafetensorError as error:
        raise InputError(f"{bundle.weights} cannot be read: {one_line(error)}; convert again") from error
    match_weights(network.weights(), weights)
    network.load_weights(weights)
    return network


def bundle_graph(bundle: Bundle, plugins: PluginManager) -> NetworkGraph:
    """The joined submodules of a bundle. Raises InputError if a plugin of theirs is not loaded or has changed."""
    offered = {s.name: s for s in plugins.submodules()}
    digests = {path.name: digest for path, digest in plugins.files.items()}
    for record in bundle.submodules:
        file = f"--plugin {record.plugin}" if record.plugin_sha256 else f"the package that holds {record.plugin}"
        if record.name not in offered:
            raise InputError(
                f"the bundle's submodule {record.name!r} comes from {record.plugin}; pass or install {file}"
            )
        if record.plugin_sha256 and digests.get(record.plugin) != record.plugin_sha256:
            raise InputError(f"{record.plugin} differs from the file this bundle was converted with; pass that one")
    graph = join([offered[r.name] for r in bundle.submodules], bundle.config)
    dimensions = bundle.config.dimensions()
    inputs, outputs = (
        {spec.name: (spec.dtype, spec.resolve(dimensions)) for spec in specs} for specs in (graph.inputs, graph.outputs)
    )
    bundle.require_interface(inputs, outputs, wires=True)
    return graph


def all_finite(tensors: Iterable[Tensor]) -> Tensor:
    """A bool, where the tensors are: whether they hold neither NaN nor infinity."""
    # Extremes take one pass and carry NaN along.
    extremes = [extreme for tensor in tensors for extreme in tensor.aminmax()]
    return torch.stack(extremes).isfinite().all() if extremes else torch.tensor(True)
