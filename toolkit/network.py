"""Submodules joined by tensor name: the checked graph, and the eager network over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from toolkit.config import ModelConfig
from toolkit.errors import InputError
from toolkit.specs import FRAME_INPUTS, StateSpec, Submodule, TensorSpec


@dataclass(frozen=True)
class NetworkGraph:
    """Submodules in an order in which each finds its inputs, and the interface of the whole."""

    config: ModelConfig
    submodules: tuple[Submodule, ...]
    frame_inputs: tuple[TensorSpec, ...]
    state_inputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    results: tuple[TensorSpec, ...]
    wires: tuple[TensorSpec, ...]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.frame_inputs + self.state_inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Everything that submodules produce, in execution order."""
        return tuple(spec for submodule in self.submodules for spec in submodule.outputs)

    def producer(self, tensor: str) -> str:
        """Name of the submodule that produces `tensor`."""
        return next(s.name for s in self.submodules if any(o.name == tensor for o in s.outputs))


def join(submodules: Sequence[Submodule], config: ModelConfig) -> NetworkGraph:
    """Join submodules by tensor name.

    Raises InputError for a missing or second producer, a shape or dtype clash, a cycle, a state without a source that
    is a result or a frame input, or checkpoint prefixes that two submodules claim.
    """
    _check_prefixes(submodules)
    producers = _producers(submodules)
    frame = {spec.name: spec for spec in FRAME_INPUTS}
    states = tuple(state for s in submodules for state in s.states)
    _check_states(states, frame, producers)
    state_inputs: dict[str, TensorSpec] = {}
    state_names = {state.input: state.source for state in states}
    dimensions = config.dimensions()
    for consumer in submodules:
        for spec in consumer.inputs:
            if spec.name in state_names:
                source = state_names[spec.name]
                _check_same(consumer, spec, frame.get(source) or producers[source][1], dimensions)
                state_inputs[spec.name] = spec
            elif spec.name in frame:
                _check_same(consumer, spec, frame[spec.name], dimensions)
            elif spec.name in producers:
                _check_same(consumer, spec, producers[spec.name][1], dimensions)
            else:
                raise InputError(
                    f"submodule {consumer.name!r} reads {spec.name!r}, which no submodule produces; add the plugin "
                    "that produces it, or declare it as a state"
                )
    used = {spec.name for s in submodules for spec in s.inputs} | set(state_names.values())
    outputs = {spec.name: spec for s in submodules for spec in s.outputs}
    result_names = [name for s in submodules for name in s.results]
    for s in submodules:
        missing = set(s.results) - {o.name for o in s.outputs}
        if missing:
            raise InputError(f"submodule {s.name!r} lists result {min(missing)!r}, which is not among its outputs")
    results = tuple(outputs[name] for name in result_names)
    ordered = _execution_order(submodules, producers, state_names)
    return NetworkGraph(
        config=config,
        submodules=ordered,
        frame_inputs=tuple(spec for spec in FRAME_INPUTS if spec.name in used),
        state_inputs=tuple(state_inputs[state.input] for state in states if state.input in state_inputs),
        states=states,
        results=results,
        wires=tuple(spec for name, spec in outputs.items() if name not in result_names),
    )


def _check_prefixes(submodules: Sequence[Submodule]) -> None:
    claimed = [(prefix, s.name) for s in submodules for prefix in s.checkpoint_prefixes]
    for i, (prefix, name) in enumerate(claimed):
        for other, owner in claimed[i + 1 :]:
            if owner != name and (prefix.startswith(other) or other.startswith(prefix)):
                raise InputError(f"submodules {name!r} and {owner!r} both claim the checkpoint prefix {prefix!r}")


def _producers(submodules: Sequence[Submodule]) -> dict[str, tuple[Submodule, TensorSpec]]:
    producers: dict[str, tuple[Submodule, TensorSpec]] = {}
    for submodule in submodules:
        for spec in submodule.outputs:
            if spec.name in producers:
                first = producers[spec.name][0].name
                raise InputError(f"tensor {spec.name!r} is produced by both {first!r} and {submodule.name!r}")
            producers[spec.name] = (submodule, spec)
    return producers


def _check_states(
    states: Sequence[StateSpec],
    frame: Mapping[str, TensorSpec],
    producers: Mapping[str, tuple[Submodule, TensorSpec]],
) -> None:
    for state in states:
        if state.source not in frame and state.source not in producers:
            raise InputError(f"state {state.input!r} follows {state.source!r}, which nothing produces")
        if state.source in producers and state.source not in producers[state.source][0].results:
            owner = producers[state.source][0].name
            raise InputError(
                f"state {state.input!r} follows {state.source!r}; list that among the results of {owner!r}"
            )


def _check_same(consumer: Submodule, wanted: TensorSpec, given: TensorSpec, dimensions: Mapping[str, int]) -> None:
    wanted_shape, given_shape = wanted.resolve(dimensions), given.resolve(dimensions)
    if wanted_shape != given_shape or wanted.dtype != given.dtype:
        raise InputError(
            f"submodule {consumer.name!r} reads {wanted.name!r} as {wanted.dtype}{list(wanted_shape)}, "
            f"but {given.name!r} is {given.dtype}{list(given_shape)}"
        )


def _execution_order(
    submodules: Sequence[Submodule],
    producers: Mapping[str, tuple[Submodule, TensorSpec]],
    state_names: Mapping[str, str],
) -> tuple[Submodule, ...]:
    remaining, ordered, done = list(submodules), list[Submodule](), set[str]()
    while remaining:
        ready = [
            s
            for s in remaining
            if all(
                spec.name in state_names or spec.name not in producers or producers[spec.name][0].name in done
                for spec in s.inputs
            )
        ]
        if not ready:
            raise InputError(f"submodules form a cycle: {' -> '.join(s.name for s in remaining)}")
        ordered.append(ready[0])
        done.add(ready[0].name)
        remaining.remove(ready[0])
    return tuple(ordered)


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
        outputs = self.parts[submodule.name](*(tensors[spec.name] for spec in submodule.inputs))
        if isinstance(outputs, Tensor):
            outputs = (outputs,)
        return dict(zip((spec.name for spec in submodule.outputs), outputs, strict=True))


def example_inputs(specs: Sequence[TensorSpec], config: ModelConfig) -> tuple[Tensor, ...]:
    """Zero tensors of the given specs."""
    return tuple(torch.from_numpy(spec.zeros(config.dimensions())) for spec in specs)
