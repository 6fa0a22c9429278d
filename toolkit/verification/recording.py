"""A dump as the reference of a verification: what the network took and gave in another environment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from toolkit.bundle import Bundle
from toolkit.errors import InputError
from toolkit.reference_interface import tensors as official
from toolkit.reference_interface.dump import REMEDY, Dump
from toolkit.verification.observation import Observation


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """What a frame was recorded to take and give, as far as it was.

    `prepared` are the frame inputs that come from elsewhere, if any: what the dump lacks is taken from there, and so is
    not `dumped`.
    """

    inputs: Mapping[str, np.ndarray]
    seen: Observation
    dumped: frozenset[str]
    prepared: Mapping[str, np.ndarray]


def recorded_frames(
    dump: Dump, bundle: Bundle, length: int, prepared: Iterable[Mapping[str, np.ndarray]] | None = None
) -> Iterator[RecordedFrame]:
    """The first frames of a dump, in our terms. Raises InputError for a tensor that does not fit the bundle."""
    state = recorded_start(dump, bundle)
    for number, given in zip(range(length), repeat({}) if prepared is None else prepared, strict=False):
        arrays = dump.inputs[number]
        inputs = official.frame_inputs(arrays, bundle, f"{dump.path}: f{number}.in.", given)
        outputs = official.results(dump.outputs[number], bundle, f"{dump.path}: frame {number}: ")
        if not outputs:
            raise InputError(f"{dump.path}: frame {number} holds no output of the bundle's network; {REMEDY}")
        dumped = frozenset(ours for name, ours in official.FRAME.items() if name in arrays)
        yield RecordedFrame(inputs, Observation({**inputs, **state}, outputs), dumped, given)
        available = {**inputs, **outputs}
        state = {s.input: available[s.source] for s in bundle.states if s.source in available}


def recorded_start(dump: Dump, bundle: Bundle) -> dict[str, np.ndarray]:
    """The state before the first frame: zeros, unless the dump begins midway."""
    if dump.starts_midway:
        return official.state_inputs(dump.inputs[0], bundle, f"{dump.path}: f0.in.")
    return {spec.name: spec.zeros(bundle.config.dimensions()) for spec in bundle.state_inputs}


def first_inputs(dump: Dump, bundle: Bundle) -> dict[str, np.ndarray]:
    """The first frame's inputs; zeros in place of those that the dump lacks."""
    missing = {spec.name: spec.zeros(bundle.config.dimensions()) for spec in bundle.frame_inputs}
    return official.frame_inputs(dump.inputs[0], bundle, f"{dump.path}: f0.in.", missing)
