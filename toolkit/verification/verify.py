"""Do sessions make the same decisions? Each runs the same frames with its own state fed back, and is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from toolkit.bundle import Bundle
from toolkit.engines.session import Session
from toolkit.engines.torch import TorchSession
from toolkit.quantization.gates import judge
from toolkit.quantization.seen import Seen, Sight
from toolkit.verification.bisection import Diagnosis, bisect, bisect_recording
from toolkit.verification.comparison import Comparison, compare
from toolkit.verification.decisions import Decisions, decide
from toolkit.verification.gates import GateFailure, check_gates, finite_failures
from toolkit.verification.inputs import InputCheck, InputComparison
from toolkit.verification.observation import Observation, Observer
from toolkit.verification.policy import FP32, Policy, by_drive, by_sense
from toolkit.verification.recording import RecordedFrame
from toolkit.verification.report import Report
from toolkit.verification.sense import sense_failures

Bisection = Callable[[Bundle, Policy, Session, TorchSession, Comparison, Observation, Observation], Diagnosis]


@dataclass(frozen=True)
class Divergence:
    """The first failing comparison, and what both sessions did in its frame."""

    comparison: Comparison
    reference: Observation
    candidate: Observation


@dataclass
class Findings:
    """What has been found about one candidate so far."""

    comparisons: list[Comparison] = field(default_factory=list)
    decisions: list[Decisions] = field(default_factory=list)
    gate_failures: list[GateFailure] = field(default_factory=list)
    seen: list[tuple[Seen, Seen]] = field(default_factory=list)
    divergence: Divergence | None = None


def verify(
    bundle: Bundle,
    reference: Session,
    candidates: Sequence[Session],
    frames: Iterable[Mapping[str, np.ndarray]],
    eager: Callable[[], TorchSession],
    *,
    policies: Sequence[Policy] = (),
    start: Mapping[str, np.ndarray] | None = None,
    sight: Sight | None = None,
) -> list[Report]:
    """Compare every candidate with the reference over `frames`, at least one, and report on each.

    Every tensor that both sessions show is compared: sessions that show the bundle's wires are compared at every
    boundary between submodules. `policies` are those of the candidates, by default FP32's. `start` is the state before
    the first frame, zeros by default. `sight` reads what gates of quantization judge. `eager` opens the network whose
    submodules can be run one at a time; it is asked for only when a candidate diverges.
    """
    observers = [Observer(bundle, session, start) for session in (reference, *candidates)]
    findings = [Findings() for _ in candidates]
    policies = policies or [FP32] * len(candidates)
    count = 0
    for number, frame in enumerate(frames):
        expected, *observed = (observer.step(frame) for observer in observers)
        for found, policy, candidate, actual in zip(findings, policies, candidates, observed, strict=True):
            names = (reference.name, candidate.name)
            inspect_frame(found, bundle, policy, number, expected, actual, names, sight)
        count += 1
    for found in findings:
        found.gate_failures += drive_failures(found.seen)
    return [
        _report(reference.name, candidate, policy, count, found, bundle, eager, bisect)
        for found, policy, candidate in zip(findings, policies, candidates, strict=True)
    ]


def verify_recording(
    bundle: Bundle,
    name: str,
    recorded: Iterable[RecordedFrame],
    candidates: Sequence[Session],
    eager: Callable[[], TorchSession],
    *,
    policies: Sequence[Policy] = (),
    start: Mapping[str, np.ndarray] | None = None,
) -> tuple[list[Report], list[InputComparison]]:
    """As `verify`, where the reference was recorded elsewhere and is called `name`; also how its inputs compare."""
    observers = [Observer(bundle, session, start) for session in candidates]
    findings = [Findings() for _ in candidates]
    policies = policies or [FP32] * len(candidates)
    check, inputs, count = InputCheck(), [], 0
    for number, frame in enumerate(recorded):
        inputs += check.compare(number, frame, bundle.config.image)
        for found, policy, observer in zip(findings, policies, observers, strict=True):
            inspect_frame(found, bundle, policy, number, frame.seen, observer.step(frame.inputs), (name, observer.name))
        count += 1
    reports = [
        _report(name, candidate, policy, count, found, bundle, eager, bisect_recording)
        for found, policy, candidate in zip(findings, policies, candidates, strict=True)
    ]
    return reports, inputs


def _report(
    reference: str,
    candidate: Session,
    policy: Policy,
    frames: int,
    found: Findings,
    bundle: Bundle,
    eager: Callable[[], TorchSession],
    bisection: Bisection,
) -> Report:
    """What was found about a candidate, and where it comes from."""
    diagnosis: Diagnosis | None = None
    if d := found.divergence:
        diagnosis = bisection(bundle, policy, candidate, eager(), d.comparison, d.reference, d.candidate)
    return Report(
        reference=reference,
        candidate=candidate.name,
        precision=policy.precision,
        frames=frames,
        comparisons=tuple(found.comparisons),
        decisions=tuple(found.decisions),
        gate_failures=tuple(found.gate_failures),
        diagnosis=diagnosis,
    )


def inspect_frame(
    found: Findings,
    bundle: Bundle,
    policy: Policy,
    number: int,
    expected: Observation,
    actual: Observation,
    names: tuple[str, str],
    sight: Sight | None = None,
) -> None:
    """Add what one frame of a candidate shows to its findings."""
    comparisons = compare(bundle, policy, number, expected.outputs, actual.outputs)
    decisions = decide(number, bundle.outputs, expected.outputs, actual.outputs)
    found.comparisons += comparisons
    found.decisions.append(decisions)
    outputs = expected.outputs, actual.outputs
    if sight is not None and by_drive(policy.precision):
        found.gate_failures += finite_failures(number, comparisons, outputs, names)
        found.seen.append((sight.of(expected), sight.of(actual)))
        return
    found.gate_failures += check_gates(decisions, comparisons, outputs, names)
    if by_sense(policy.precision):
        found.gate_failures += sense_failures(decisions, comparisons)
    elif found.divergence is None:
        failed = next((c for c in comparisons if not c.passed), None)
        found.divergence = Divergence(failed, expected, actual) if failed else None


def drive_failures(seen: Sequence[tuple[Seen, Seen]]) -> list[GateFailure]:
    """What gates of quantization say about all frames that are finite, at the last of them."""
    finite = [pair for pair in seen if not any(frame.broken for frame in pair)]
    if not finite:
        return []
    findings = judge([expected for expected, _ in finite], [actual for _, actual in finite])
    return [GateFailure(len(seen) - 1, f.subject, f"{f.text} (bound {f.bound:g})") for f in findings if not f.holds]
