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
from toolkit.text import in_words
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
        outputs = recorded_outputs(dump, bundle, number)
        dumped = frozenset(ours for name, ours in official.FRAME.items() if name in arrays)
        yield RecordedFrame(inputs, Observation({**inputs, **state}, outputs), dumped, given)
        available = {**inputs, **outputs}
        state = {s.input: available[s.source] for s in bundle.states if s.source in available}


def recorded_start(dump: Dump, bundle: Bundle) -> dict[str, np.ndarray]:
    """The state before the first frame: zeros, unless the dump begins midway."""
    if dump.starts_midway:
        return official.state_inputs(dump.inputs[0], bundle, f"{dump.path}: f0.in.")
    return {spec.name: spec.zeros(bundle.config.dimensions()) for spec in bundle.state_inputs}


def recorded_outputs(dump: Dump, bundle: Bundle, number: int) -> dict[str, np.ndarray]:
    """A frame's outputs, in our terms. Raises InputError for a tensor that does not fit the bundle."""
    return official.results(dump.outputs[number], bundle, f"{dump.path}: frame {number}: ")


def fitting_inputs(dump: Dump, bundle: Bundle) -> dict[str, np.ndarray]:
    """The first frame's inputs; zeros in place of those that the dump lacks.

    Raises InputError for a dump of another size of network: for a tensor of that frame that does not fit the bundle.
    """
    missing = {spec.name: spec.zeros(bundle.config.dimensions()) for spec in bundle.frame_inputs}
    inputs = official.frame_inputs(dump.inputs[0], bundle, f"{dump.path}: f0.in.", missing)
    recorded_outputs(dump, bundle, 0)
    named, pictures = dump.origin.cameras, len(bundle.config.image.cameras)
    if named is not None and "img" in dump.inputs.names(0) and len(named) != pictures:
        raise InputError(f"{dump.path}: meta names {len(named)} cameras, f0.in.img has {pictures}; {REMEDY}")
    return inputs


def require_outputs(dump: Dump, bundle: Bundle, length: int) -> None:
    """Raise InputError unless each of the first frames has every official output that the bundle's network gives.

    Forecasts are needed where one frame has them. Between the first frame and the last, tracks and BEV are needed
    where one frame in between has them: a dump may leave them out there, to be smaller.
    """
    given = {spec.name for spec in bundle.outputs}
    frames = [dump.outputs.names(number) for number in range(len(dump.outputs))]
    anywhere, between = frozenset[str]().union(*frames), frozenset[str]().union(*frames[1:-1])
    ends = official.FORECASTS.keys() - anywhere
    for number in range(length):
        spared = ends if number in (0, len(frames) - 1) else ends | (official.LASTING - between)
        wanted = [name for name, ours in official.NETWORK_OUTPUTS.items() if ours in given and name not in spared]
        if missing := [name for name in wanted if name not in frames[number]]:
            raise InputError(
                f"{dump.path}: frame {number} lacks {in_words(missing)}, which the bundle's network gives; {REMEDY}"
            )


def require_inputs(dump: Dump, bundle: Bundle, length: int) -> None:
    """Raise InputError unless each of the first frames has all inputs, so that none need come from elsewhere."""
    taken = {spec.name for spec in bundle.frame_inputs}
    wanted = [name for name, ours in official.FRAME.items() if ours in taken]
    for number in range(length):
        if missing := [name for name in wanted if name not in dump.inputs.names(number)]:
            raise InputError(
                f"{dump.path}: f{number}.in.{missing[0]} is missing; give --frames or --inputs, to take it from there"
            )
