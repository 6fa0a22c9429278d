"""Which layers to quantize, by what quantizing them does to a drive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache

from toolkit.conversion.prepare import Progress
from toolkit.errors import CheckFailed
from toolkit.quantization.candidates import Candidate
from toolkit.quantization.gates import Finding, worst

DIVISIBLE = 8
"""Layers from which on a group is divided, rather than kept."""
Nodes = frozenset[str]
Trial = Callable[[Nodes, int], tuple[Finding, ...]]
"""What gates find when these layers are quantized, over so many frames from the first on."""


@dataclass(frozen=True)
class Effect:
    """A submodule or a layer class, `unit`, quantized alone: a `share` of all layers that can be."""

    unit: str
    layers: int
    share: float
    findings: tuple[Finding, ...]

    @property
    def severity(self) -> float:
        """Of the gate that suffers most."""
        return worst(self.findings).severity


@dataclass(frozen=True)
class Step:
    """One set of the search: its share of all layers, what gates found, and what was kept for it, if anything more."""

    share: float
    findings: tuple[Finding, ...]
    kept: str = ""

    @property
    def holds(self) -> bool:
        return all(finding.holds for finding in self.findings)


@dataclass(frozen=True)
class Choice:
    """The layers to quantize, why each other one is kept, and what was measured on the way; the last step holds."""

    nodes: Nodes
    kept: Mapping[str, str]
    effects: tuple[Effect, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Lengths:
    """Frames of a drive: the `whole`, and the `short` beginning on which most is decided."""

    short: int
    whole: int


def choose(
    layers: Sequence[Candidate],
    trial: Trial,
    lengths: Lengths,
    spent: Callable[[], bool] = lambda: False,
    progress: Progress = lambda step: nullcontext(),
) -> Choice:
    """All layers, or those that remain when gates hold over the whole drive.

    Each submodule and each layer class is quantized alone over the short drive. Quantizing fewer layers is taken to
    hurt less, so the layers of one class in one submodule hurt no more than the submodule and than the class. Such
    groups are kept one after the other, those first that may hurt most; a large one is divided before, for a few layers
    may do all the harm. Raises CheckFailed, which names what fails worst, when nothing is left, or when time is `spent`
    before gates hold.
    """
    trial = cache(trial)
    everything = frozenset(layer.node for layer in layers)
    effects: dict[str, Effect] = {}

    def alone(unit: str, nodes: Sequence[str]) -> Effect:
        with progress(f"drive with {unit} alone, {len(nodes)} layers"):
            findings = trial(frozenset(nodes), lengths.short)
        effects[unit] = Effect(unit, len(nodes), len(nodes) / len(everything), findings)
        return effects[unit]

    with progress(f"drive with all {len(everything)} layers quantized"):
        steps = [Step(1.0, _tested(trial, everything, lengths))]
    for unit, members in _units(layers).items():
        if not spent():
            alone(unit, members)
    nodes, kept = everything, dict[str, str]()
    groups = _groups(layers, effects)
    while not steps[-1].holds:
        failed = worst(steps[-1].findings)
        if spent():
            raise CheckFailed(f"no choice of layers was found in time: last, {failed}; raise --budget, or name --keep")
        groups.sort(key=lambda group: -group.severity)
        group = groups.pop(0)
        if len(group.nodes) >= DIVISIBLE:
            groups += [half.measured(alone(half.name, half.nodes)) for half in group.halves()]
            continue
        nodes -= frozenset(group.nodes)
        if not nodes:
            raise CheckFailed(f"no layer can be quantized so that gates hold: last, {failed}; calibrate on more frames")
        kept |= dict.fromkeys(group.nodes, f"{group.reason}; gates failed with it: {failed}")
        with progress(f"drive without {group.name}, {len(nodes)} layers"):
            findings = _tested(trial, nodes, lengths)
        steps.append(Step(len(nodes) / len(everything), findings, group.name))
    return Choice(nodes, kept, tuple(effects.values()), tuple(steps))


@dataclass(frozen=True)
class _Group:
    """Layers of one class in one submodule, in their order, and what says most about how much they can hurt.

    `title` names all of these; the first of the group is number `first` among them, `whole` says that it has them all.
    """

    title: str
    nodes: tuple[str, ...]
    first: int = 1
    whole: bool = True
    severity: float = 0.0
    reason: str = "not measured"

    @property
    def name(self) -> str:
        return self.title if self.whole else f"{self.title}, {self.first} to {self.first + len(self.nodes) - 1}"

    def halves(self) -> tuple[_Group, _Group]:
        """The group in two, of which no more is known than of the whole."""
        middle = len(self.nodes) // 2
        return (
            replace(self, nodes=self.nodes[:middle], whole=False),
            replace(self, nodes=self.nodes[middle:], first=self.first + middle, whole=False),
        )

    def measured(self, effect: Effect) -> _Group:
        """The group with what an effect says, if it bounds the harm more closely."""
        if self.reason != "not measured" and effect.severity >= self.severity:
            return self
        return replace(self, severity=effect.severity, reason=f"{effect.unit} alone: {worst(effect.findings)}")


def _tested(trial: Trial, nodes: Nodes, lengths: Lengths) -> tuple[Finding, ...]:
    """Over the short drive, and if gates hold there, over the whole."""
    findings = trial(nodes, lengths.short)
    if lengths.whole > lengths.short and all(finding.holds for finding in findings):
        return trial(nodes, lengths.whole)
    return findings


def _units(layers: Sequence[Candidate]) -> dict[str, list[str]]:
    """Submodules, then layer classes, by what they are called."""
    units: dict[str, list[str]] = {}
    for name_of in (_submodule, _layer_class):
        for layer in layers:
            units.setdefault(name_of(layer), []).append(layer.node)
    return units


def _groups(layers: Sequence[Candidate], effects: Mapping[str, Effect]) -> list[_Group]:
    """The layers of each class in each submodule, as far as their effects were measured."""
    members: dict[tuple[str, str], list[str]] = {}
    for layer in layers:
        members.setdefault((_submodule(layer), _layer_class(layer)), []).append(layer.node)
    groups = []
    for units, nodes in members.items():
        group = _Group(" of ".join(reversed(units)), tuple(nodes))
        for effect in (effects[unit] for unit in units if unit in effects):
            group = group.measured(effect)
        groups.append(group)
    return groups


def _submodule(layer: Candidate) -> str:
    return layer.submodule or "the model"


def _layer_class(layer: Candidate) -> str:
    return f"{layer.layer_class.value} layers"
