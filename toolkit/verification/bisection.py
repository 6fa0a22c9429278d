"""Where a divergence comes from: an earlier frame's state or this frame, and which submodule.

One session's tensors are injected into the other. The candidate runs the first divergent frame on the reference's
state; then the eager submodules run, one at a time, on the tensors that the candidate gave, so that an error is pinned
on the first submodule that errs on identical inputs, whatever came before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

import numpy as np

from toolkit.bundle import Bundle
from toolkit.engines.session import Session
from toolkit.engines.torch import TorchSession
from toolkit.verification.comparison import Arrays, Comparison, compare
from toolkit.verification.hypotheses import betrayed_setting
from toolkit.verification.metrics import measure
from toolkit.verification.observation import Observation, run_once
from toolkit.verification.policy import Policy

Failures = Callable[[Arrays], tuple[dict[str, np.ndarray], list[Comparison]]]
"""What a session gives on inputs, and which comparisons fail."""


class Origin(Enum):
    """How a frame came to diverge."""

    SUBMODULE = "submodule"
    """A submodule errs on identical inputs."""
    SETTING = "setting"
    """The recorded model was fed or read by another setting."""
    ACCUMULATED = "accumulated"
    """Every submodule keeps its bounds on identical inputs, but their small errors add up within the frame."""
    INHERITED = "inherited"
    """On the reference's state the candidate agrees: small errors of earlier frames came in with its own state."""
    NOT_REPRODUCED = "not reproduced"
    """On the very same inputs as before the candidate now agrees: it does not compute the same every time."""


@dataclass(frozen=True)
class Diagnosis:
    """The origin of the first divergence.

    `suspects` are submodules: the one that errs (or comes closest to its bounds), then those before it whose outputs
    the session does not show; `tensor` is the one that shows it, with its `error` and `bound`. `states` are the state
    inputs that carry an inherited error, or may carry one since the reference did not record them; `setting` says what
    another setting explains.
    """

    origin: Origin
    frame: int
    suspects: tuple[str, ...] = ()
    tensor: str | None = None
    error: float | None = None
    bound: float | None = None
    states: tuple[str, ...] = ()
    setting: str | None = None

    def __str__(self) -> str:
        if self.origin is Origin.SETTING:
            return f"made in frame {self.frame} by another setting of the dump, with which it agrees: {self.setting}"
        if self.origin is Origin.SUBMODULE:
            return f"made in frame {self.frame} by {self._suspicion()}"
        if self.origin is Origin.ACCUMULATED:
            return (
                f"made in frame {self.frame}, but on identical inputs every submodule keeps its tolerance; closest "
                f"to it comes {self._suspicion()}"
            )
        if self.origin is Origin.INHERITED:
            carriers = ", ".join(repr(name) for name in self.states)
            return (
                f"inherited from earlier frames through {carriers}: on the reference's state, frame {self.frame} agrees"
            )
        return f"not reproduced: frame {self.frame}, run again on the same inputs, agrees"

    def _suspicion(self) -> str:
        first, *others = (repr(name) for name in self.suspects)
        hidden = f" (or {', '.join(others)}, whose outputs cannot be seen)" if others else ""
        unseen = f", unless it came in with the state, of which {len(self.states)} tensors are not recorded"
        return (
            f"submodule {first}{hidden}: on identical inputs {self.tensor!r} is off by {self.error:.3g}, "
            f"tolerance {self.bound:.3g}{unseen if self.states else ''}"
        )


def bisect(
    bundle: Bundle,
    policy: Policy,
    candidate: Session,
    eager: TorchSession,
    divergence: Comparison,
    reference: Observation,
    observed: Observation,
) -> Diagnosis:
    """Find the origin of `divergence`, from what both sessions were seen to do in its frame."""
    failures = partial(find_failures, bundle, policy, candidate, divergence.frame, reference.outputs)
    outputs, wrong = failures(reference.inputs)
    if wrong:
        return find_fault(bundle, policy, eager, wrong[0], Observation(reference.inputs, outputs))
    return find_carrier(bundle, divergence.frame, failures, reference.inputs, observed.inputs)


def bisect_recording(
    bundle: Bundle,
    policy: Policy,
    candidate: Session,
    eager: TorchSession,
    divergence: Comparison,
    recorded: Observation,
    observed: Observation,
) -> Diagnosis:
    """The same where the reference was recorded, and may have left out some of its state and outputs.

    A setting that explains it is named first (`betrayed_setting`), else the first submodule that, run on recorded
    tensors, does not give the recorded ones; if there is none, the first in which the candidate errs. State that was
    not recorded is the candidate's own.
    """
    failures = partial(find_failures, bundle, policy, candidate, divergence.frame, recorded.outputs)
    inputs = {**observed.inputs, **recorded.inputs}
    outputs, wrong = failures(inputs)
    if not wrong:
        return find_carrier(bundle, divergence.frame, failures, inputs, observed.inputs)
    setting = betrayed_setting(
        bundle, policy, divergence.frame, inputs, recorded.outputs, outputs, lambda changed: failures(changed)[1]
    )
    if setting is not None:
        return Diagnosis(Origin.SETTING, divergence.frame, setting=setting)
    fault = find_fault(bundle, policy, eager, wrong[0], Observation(inputs, recorded.outputs))
    if fault.origin is not Origin.SUBMODULE:
        fault = find_fault(bundle, policy, eager, wrong[0], Observation(inputs, outputs))
    unseen = tuple(spec.name for spec in bundle.state_inputs if spec.name not in recorded.inputs)
    return replace(fault, states=unseen)


def find_failures(
    bundle: Bundle, policy: Policy, candidate: Session, frame: int, expected: Arrays, inputs: Arrays
) -> tuple[dict[str, np.ndarray], list[Comparison]]:
    """What the candidate gives on `inputs`, and which comparisons with the `expected` outputs fail."""
    outputs = run_once(candidate, inputs)
    return outputs, [c for c in compare(bundle, policy, frame, expected, outputs) if not c.passed]


def find_carrier(bundle: Bundle, frame: int, failures: Failures, expected: Arrays, observed: Arrays) -> Diagnosis:
    """The state that carries an error which is gone on the `expected` inputs."""
    if not failures(observed)[1]:
        return Diagnosis(Origin.NOT_REPRODUCED, frame)
    suspects = differing_states(bundle, expected, observed)
    for state in suspects:
        if not failures({**observed, state: expected[state]})[1]:
            return Diagnosis(Origin.INHERITED, frame, states=(state,))
    return Diagnosis(Origin.INHERITED, frame, states=tuple(suspects))


def differing_states(bundle: Bundle, expected: Arrays, actual: Arrays) -> Sequence[str]:
    """State inputs that are not the same in both, the one that differs most in relation to its size first."""
    errors = {spec.name: measure(expected[spec.name], actual[spec.name]).norm for spec in bundle.state_inputs}
    return sorted((name for name, error in errors.items() if error > 0), key=lambda name: -errors[name])


def find_fault(bundle: Bundle, policy: Policy, eager: TorchSession, wrong: Comparison, seen: Observation) -> Diagnosis:
    """The first submodule that errs on the inputs which the candidate gave it.

    If none does, the one that comes closest to its bounds up to `wrong`, the candidate's first wrong tensor. Tensors
    that the candidate does not show are computed by the eager submodules, which puts those that produce them under
    suspicion as well.
    """
    tensors = {name: eager.upload(array) for name, array in {**seen.inputs, **seen.outputs}.items()}
    unseen: dict[str, set[str]] = {}
    faults: list[tuple[set[str], Comparison]] = []
    for submodule in eager.submodules:
        computed = eager.run_submodule(submodule, tensors)
        earlier = {name for read in submodule.reads for name in unseen.get(read, ())}
        expected = {name: eager.download(tensor) for name, tensor in computed.items()}
        faults += [(earlier, c) for c in compare(bundle, policy, wrong.frame, expected, seen.outputs)]
        if submodule.name == wrong.submodule or not all(c.passed for _, c in faults):
            break
        hidden = {name: tensor for name, tensor in computed.items() if name not in seen.outputs}
        unseen |= {name: {submodule.name, *earlier} for name in hidden}
        tensors |= hidden
    failed = [fault for fault in faults if not fault[1].passed]
    earlier, worst = failed[0] if failed else max(faults, key=lambda fault: fault[1].severity)
    return Diagnosis(
        Origin.SUBMODULE if failed else Origin.ACCUMULATED,
        wrong.frame,
        suspects=(worst.submodule, *(s.name for s in bundle.submodules if s.name in earlier)),
        tensor=worst.tensor,
        error=worst.error,
        bound=worst.bound,
    )
