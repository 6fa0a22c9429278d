"""Keeps the recurrent state usable for as long as a sequence lasts.

One value that is not finite would come back with every later frame, and track ids are 32-bit numbers that only grow.
Sound state is left as it is; what must be repaired is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from toolkit.bundle import Bundle
from toolkit.engines.session import Session
from toolkit.errors import InputError

ROWS = "tracks"
"""First dimension of the state inputs whose rows are tracks: the fresh queries, tracks, padding."""
ROW_COUNT = "prev_track_count"
NEXT_ID = "prev_next_track_id"
NEXT_ID_LIMIT = 2**30
"""Of 32 bits it leaves far more ids than one frame can give away."""


@dataclass(frozen=True)
class Repairs:
    """What had to be changed in the state after a frame, so that the next one can use it."""

    poisoned_tracks: int = 0
    """Tracks forgotten because their rows held values that are not finite."""
    poisoned_states: tuple[str, ...] = ()
    """Other state inputs with such values, now zero: the next frame starts a new scene."""
    ids_restarted: bool = False
    """Ids had come near the end of their range: the next frame starts a new scene, and ids start at 0 again."""

    @property
    def scene_reset(self) -> bool:
        """Whether the next frame starts a new scene, whatever its input says."""
        return bool(self.poisoned_states) or self.ids_restarted

    def __bool__(self) -> bool:
        return self != NO_REPAIRS

    def __str__(self) -> str:
        parts = []
        if self.poisoned_tracks:
            parts.append(f"tracks forgotten because not finite: {self.poisoned_tracks}")
        if self.poisoned_states:
            parts.append(f"scene reset because not finite: {', '.join(self.poisoned_states)}")
        if self.ids_restarted:
            parts.append("scene reset because track ids ran out: they restart at 0")
        return "; ".join(parts)


NO_REPAIRS = Repairs()


class StateGuard:
    """Looks at the state after every frame in the session's own memory; only a repair takes it out and back."""

    def __init__(self, bundle: Bundle, session: Session) -> None:
        self._session = session
        self._fresh = bundle.config.tracking.queries
        self._floats = [spec.name for spec in bundle.state_inputs if spec.dtype.startswith("float")]
        self._rows = [spec.name for spec in bundle.state_inputs if spec.shape[:1] == (ROWS,)]

    def repair(self, state: dict[str, Any]) -> tuple[dict[str, Any], Repairs]:
        """The state, in the session's tensors by the names of the state inputs, fit for the next frame."""
        poisoned = not self._session.finite(state[name] for name in self._floats)
        exhausted = NEXT_ID in state and self._session.download(state[NEXT_ID]).item() > NEXT_ID_LIMIT
        if not poisoned and not exhausted:
            return state, NO_REPAIRS
        arrays = {name: self._session.download(tensor) for name, tensor in state.items()}
        tracks = 0
        if self._rows and ROW_COUNT in arrays:
            arrays, tracks = forget_tracks(arrays, self._rows, self._fresh)
        states = tuple(name for name in self._floats if not np.isfinite(arrays[name]).all())
        arrays |= {name: np.zeros_like(arrays[name]) for name in states}
        if exhausted:
            arrays[NEXT_ID] = np.zeros_like(arrays[NEXT_ID])
        return {name: self._session.upload(array) for name, array in arrays.items()}, Repairs(tracks, states, exhausted)


def forget_tracks(
    arrays: Mapping[str, np.ndarray], rows: Iterable[str], fresh: int
) -> tuple[dict[str, np.ndarray], int]:
    """The state without tracks whose rows hold values that are not finite, and how many tracks these were.

    `rows` names the arrays with a row for each track. The rows behind a forgotten one move up, zeros follow. The first
    `fresh` rows are no tracks and stay.
    """
    by_row = {name: arrays[name] for name in rows}
    sound = np.all([np.isfinite(array).reshape(len(array), -1).all(1) for array in by_row.values()], axis=0)
    sound[:fresh] = True
    kept = np.flatnonzero(sound)
    moved = {name: np.zeros_like(array) for name, array in by_row.items()}
    for name, array in by_row.items():
        moved[name][: len(kept)] = array[kept]
    count = arrays[ROW_COUNT]
    forgotten = int(np.count_nonzero(~sound[: count.item()]))
    return {**arrays, **moved, ROW_COUNT: count - np.array(forgotten, count.dtype)}, forgotten


def check_next_id(state: Mapping[str, np.ndarray]) -> None:
    """Raise InputError for a state in which the next track id leaves no room for more of them."""
    if NEXT_ID in state and not 0 <= state[NEXT_ID].item() <= NEXT_ID_LIMIT:
        raise InputError(
            f"input {NEXT_ID!r} (max_obj_id) is {state[NEXT_ID].item()}; it must lie between 0 and {NEXT_ID_LIMIT}"
        )
