"""The eager network over joined submodules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from toolkit.config.model import ModelConfig
from toolkit.errors import InputError
from toolkit.specs import Submodule, TensorSpec
from toolkit.wiring import NetworkGraph


class Network(nn.Module):
    """The joined submodules as one eager module over dictionaries of named tensors."""

    def __init__(self, graph: NetworkGraph) -> None:
        super().__init__()
        self.graph = graph
        self.parts = nn.ModuleDict({s.name: s.build(graph.config) for s in graph.submodules})
        self.eval().requires_grad_(False)

    def weights(self) -> dict[str, Tensor]:
        """All parameters and buffers under their official checkpoint keys, assets included."""
        merged: dict[str, Tensor] = {}
        for submodule in self.graph.submodules:
            entries = self.parts[submodule.name].state_dict()
            foreign = [k for k in entries if not k.startswith(submodule.checkpoint_prefixes)]
            if foreign:
                raise InputError(
                    f"submodule {submodule.name!r} has entry {foreign[0]!r} outside its checkpoint prefixes"
                )
            merged |= entries
        return merged

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load entries that have already been matched against `weights()`."""
        for part in self.parts.values():
            part.load_state_dict({key: weights[key] for key in part.state_dict()}, strict=True)

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every tensor that the submodules produce, by name."""
        tensors = dict(inputs)
        for submodule in self.graph.submodules:
            tensors |= self.run_submodule(submodule, tensors)
        return {spec.name: tensors[spec.name] for spec in self.graph.outputs}

    def run_submodule(self, submodule: Submodule, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of one submodule, whose inputs are among `tensors`."""
        outputs = self.parts[submodule.name](*(tensors[name] for name in submodule.reads))
        if isinstance(outputs, Tensor):
            outputs = (outputs,)
        return dict(zip((spec.name for spec in submodule.outputs), outputs, strict=True))


def example_inputs(specs: Sequence[TensorSpec], config: ModelConfig) -> tuple[Tensor, ...]:
    """Zero tensors of the given specs."""
    return tuple(torch.from_numpy(spec.zeros(config.dimensions())) for spec in specs)
