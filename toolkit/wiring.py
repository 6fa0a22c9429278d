"""Submodules joined by tensor name: who gives what to whom, checked before anything is built."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from toolkit.config.model import ModelConfig
from toolkit.errors import InputError
from toolkit.specs import FRAME_INPUTS, StateSpec, StateTable, Submodule, TensorSpec

_FRAME = {spec.name: spec for spec in FRAME_INPUTS}


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
    tables: tuple[StateTable, ...] = ()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.frame_inputs + self.state_inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Everything that submodules produce, in execution order."""
        return tuple(spec for submodule in self.submodules for spec in submodule.outputs)

    def inputs_of(self, submodule: Submodule) -> tuple[TensorSpec, ...]:
        """What a submodule reads, in its order."""
        specs = {spec.name: spec for spec in (*self.outputs, *self.inputs)}
        return tuple(specs[name] for name in submodule.reads)

    def producer(self, tensor: str) -> str:
        """Name of the submodule that produces `tensor`."""
        return next(s.name for s in self.submodules if any(o.name == tensor for o in s.outputs))


def join(submodules: Sequence[Submodule], config: ModelConfig) -> NetworkGraph:
    """Join submodules by tensor name.

    Raises InputError for a missing or second producer, a shape or dtype clash, a cycle, a state without a source that
    is a result or a frame input, a table of other things than its submodule's states, or checkpoint prefixes that two
    submodules claim.
    """
    _check_prefixes(submodules)
    _check_results(submodules)
    owners = _owners(submodules)
    outputs = {spec.name: spec for s in submodules for spec in s.outputs}
    states = tuple(state for s in submodules for state in s.states)
    _check_states(states, owners)
    _check_tables(submodules, config.dimensions())
    sources = {state.input: _FRAME.get(state.source) or outputs[state.source] for state in states}
    _check_inputs(submodules, outputs | _FRAME | sources, config.dimensions())
    read = {name for s in submodules for name in s.reads}
    used = read | {state.source for state in states}
    results = [name for s in submodules for name in s.results]
    return NetworkGraph(
        config=config,
        submodules=_execution_order(submodules, owners, sources.keys()),
        frame_inputs=tuple(spec for spec in FRAME_INPUTS if spec.name in used),
        state_inputs=tuple(_previous(name, source) for name, source in sources.items() if name in read),
        states=states,
        results=tuple(outputs[name] for name in results),
        wires=tuple(spec for name, spec in outputs.items() if name not in results),
        tables=tuple(table for s in submodules for table in s.tables),
    )


def _previous(name: str, source: TensorSpec) -> TensorSpec:
    """The state input that holds `source` of the previous frame."""
    return TensorSpec(name, source.shape, source.dtype, f"previous frame: {source.meaning}")


def _check_prefixes(submodules: Sequence[Submodule]) -> None:
    claimed = [(prefix, s.name) for s in submodules for prefix in s.checkpoint_prefixes]
    for i, (prefix, name) in enumerate(claimed):
        for other, owner in claimed[i + 1 :]:
            if owner != name and (prefix.startswith(other) or other.startswith(prefix)):
                raise InputError(f"submodules {name!r} and {owner!r} both claim the checkpoint prefix {prefix!r}")


def _check_results(submodules: Sequence[Submodule]) -> None:
    for s in submodules:
        missing = set(s.results) - {o.name for o in s.outputs}
        if missing:
            raise InputError(f"submodule {s.name!r} lists result {min(missing)!r}, which is not among its outputs")


def _owners(submodules: Sequence[Submodule]) -> dict[str, Submodule]:
    """The submodule that produces each tensor."""
    owners: dict[str, Submodule] = {}
    for submodule in submodules:
        for spec in submodule.outputs:
            if spec.name in owners:
                first = owners[spec.name].name
                raise InputError(f"tensor {spec.name!r} is produced by both {first!r} and {submodule.name!r}")
            owners[spec.name] = submodule
    return owners


def _check_states(states: Sequence[StateSpec], owners: Mapping[str, Submodule]) -> None:
    for state in states:
        owner = owners.get(state.source)
        if owner is None and state.source not in _FRAME:
            raise InputError(f"state {state.input!r} follows {state.source!r}, which nothing produces")
        if owner is not None and state.source not in owner.results:
            raise InputError(
                f"state {state.input!r} follows {state.source!r}; list that among the results of {owner.name!r}"
            )


def _check_tables(submodules: Sequence[Submodule], dimensions: Mapping[str, int]) -> None:
    for s in submodules:
        inputs = {state.input for state in s.states}
        for table in s.tables:
            for name in (table.count, table.next_id):
                if name not in inputs:
                    raise InputError(f"submodule {s.name!r} has a table over {name!r}, which is not among its states")
            for name in (table.rows, table.fresh):
                if name not in dimensions:
                    raise InputError(f"submodule {s.name!r} has a table of {name!r}, which is no dimension")


def _check_inputs(
    submodules: Sequence[Submodule], given: Mapping[str, TensorSpec], dimensions: Mapping[str, int]
) -> None:
    """Everything that a submodule reads is `given`, and as it expects where it says so.

    `given` has for a state input the tensor that it follows.
    """
    for consumer in submodules:
        for wanted in consumer.inputs:
            name = wanted if isinstance(wanted, str) else wanted.name
            if name not in given:
                raise InputError(
                    f"submodule {consumer.name!r} reads {name!r}, which no submodule produces; add the plugin "
                    "that produces it, or declare it as a state"
                )
            if isinstance(wanted, TensorSpec):
                _check_same(consumer, wanted, given[name], dimensions)


def _check_same(consumer: Submodule, wanted: TensorSpec, given: TensorSpec, dimensions: Mapping[str, int]) -> None:
    wanted_shape, given_shape = wanted.resolve(dimensions), given.resolve(dimensions)
    if wanted_shape != given_shape or wanted.dtype != given.dtype:
        raise InputError(
            f"submodule {consumer.name!r} reads {wanted.name!r} as {wanted.dtype}{list(wanted_shape)}, "
            f"but {given.name!r} is {given.dtype}{list(given_shape)}"
        )


def _execution_order(
    submodules: Sequence[Submodule], owners: Mapping[str, Submodule], state_inputs: Collection[str]
) -> tuple[Submodule, ...]:
    """The submodules as given, but each after those that it reads from in the same frame."""
    by_name = {s.name: s for s in submodules}
    position = {name: i for i, name in enumerate(by_name)}
    sorter = TopologicalSorter(
        {s.name: {owners[n].name for n in s.reads if n in owners and n not in state_inputs} for s in submodules}
    )
    try:
        sorter.prepare()
    except CycleError as error:
        raise InputError(f"submodules form a cycle: {' -> '.join(error.args[1])}") from error
    ready, ordered = list[str](), list[Submodule]()
    while sorter.is_active():
        ready += sorter.get_ready()
        earliest = min(ready, key=position.__getitem__)
        ready.remove(earliest)
        sorter.done(earliest)
        ordered.append(by_name[earliest])
    return tuple(ordered)
