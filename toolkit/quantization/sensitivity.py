"""Which layers to quantize, by what quantizing them does to a drive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache

from toolkit.conversion.prepare import Progress
from toolkit.errors import CheckFailed
from toolkit.quantization.candidates import Candidate
from toolkit.quantization.gates import Finding, worst

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
    hurt less, so the layers of one class in one submodule hurt no more than the submodule and than the class; those
    that may hurt most are kept one such group after the other. Raises CheckFailed, which names what fails worst, when
    nothing is left, or when time is `spent` before gates hold.
    """
    trial = cache(trial)
    everything = frozenset(layer.node for layer in layers)
    with progress(f"drive with all {len(everything)} layers quantized"):
        steps = [Step(1.0, _tested(trial, everything, lengths))]
    effects: dict[str, Effect] = {}
    for unit, nodes in _units(layers).items():
        if spent():
            break
        with progress(f"drive with {unit} alone, {len(nodes)} layers"):
            findings = trial(nodes, lengths.short)
        effects[unit] = Effect(unit, len(nodes), len(nodes) / len(everything), findings)
    nodes, kept = everything, dict[str, str]()
    groups = _groups(layers, effects)
    while not steps[-1].holds:
        failed = worst(steps[-1].findings)
        if spent():
            raise CheckFailed(f"no choice of layers was found in time: last, {failed}; raise --budget, or name --keep")
        if len(groups) < 2:
            raise CheckFailed(f"no layer can be quantized so that gates hold: last, {failed}; calibrate on more frames")
        group = groups.pop(0)
        nodes -= group.nodes
        kept |= dict.fromkeys(group.nodes, f"{group.reason}; gates failed with it: {failed}")
        with progress(f"drive without {group.name}, {len(nodes)} layers"):
            findings = _tested(trial, nodes, lengths)
        steps.append(Step(len(nodes) / len(everything), findings, group.name))
    return Choice(nodes, kept, tuple(effects.values()), tuple(steps))


@dataclass(frozen=True)
class _Group:
    """The layers of one class in one submodule, and what says most about how much they can hurt."""

    name: str
    nodes: Nodes
    severity: float
    reason: str


def _tested(trial: Trial, nodes: Nodes, lengths: Lengths) -> tuple[Finding, ...]:
    """Over the short drive, and if gates hold there, over the whole."""
    findings = trial(nodes, lengths.short)
    if lengths.whole > lengths.short and all(finding.holds for finding in findings):
        return trial(nodes, lengths.whole)
    return findings


def _units(layers: Sequence[Candidate]) -> dict[str, Nodes]:
    """Submodules, then layer classes, by what they are called."""
    units: dict[str, set[str]] = {}
    for name_of in (_submodule, _layer_class):
        for layer in layers:
            units.setdefault(name_of(layer), set()).add(layer.node)
    return {name: frozenset(nodes) for name, nodes in units.items()}


def _groups(layers: Sequence[Candidate], effects: Mapping[str, Effect]) -> list[_Group]:
    """What can be kept at a time, that which may hurt most first."""
    members: dict[tuple[str, str], set[str]] = {}
    for layer in layers:
        members.setdefault((_submodule(layer), _layer_class(layer)), set()).add(layer.node)
    groups = []
    for names, nodes in members.items():
        known = [effects[name] for name in names if name in effects]
        least = min(known, key=lambda effect: effect.severity, default=None)
        reason = "not measured" if least is None else f"{least.unit} alone: {worst(least.findings)}"
        severity = 0.0 if least is None else least.severity
        groups.append(_Group(" of ".join(reversed(names)), frozenset(nodes), severity, reason))
    return sorted(groups, key=lambda group: -group.severity)


def _submodule(layer: Candidate) -> str:
    return layer.submodule or "the model"


def _layer_class(layer: Candidate) -> str:
    return f"{layer.layer_class.value} layers"
