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
from toolkit.reference_interface.tensors import RECURRENT
from toolkit.runtime.repairs import NO_REPAIRS, Repairs
from toolkit.specs import StateTable, TensorSpec

NEXT_ID_LIMIT = 2**30
"""Of 32 bits it leaves far more ids than one frame can give away."""


class StateGuard:
    """Looks at the state after every frame in the session's own memory; only a repair takes it out and back."""

    def __init__(self, bundle: Bundle, session: Session) -> None:
        dimensions = bundle.config.dimensions()
        self._session = session
        self._floats = [spec.name for spec in bundle.state_inputs if spec.dtype.startswith("float")]
        self._tables = [Table.of(table, bundle.state_inputs, dimensions) for table in bundle.tables]

    def repair(self, state: dict[str, Any]) -> tuple[dict[str, Any], Repairs]:
        """The state, in the session's tensors by the names of the state inputs, fit for the next frame."""
        poisoned = not self._session.finite(state[name] for name in self._floats)
        exhausted = [t.next_id for t in self._tables if self._session.download(state[t.next_id]).item() > NEXT_ID_LIMIT]
        if not poisoned and not exhausted:
            return state, NO_REPAIRS
        arrays = {name: self._session.download(tensor) for name, tensor in state.items()}
        forgotten = 0
        for table in self._tables:
            arrays, count = forget_rows(arrays, table)
            forgotten += count
        states = tuple(name for name in self._floats if not np.isfinite(arrays[name]).all())
        arrays |= {name: np.zeros_like(arrays[name]) for name in (*states, *exhausted)}
        uploaded = {name: self._session.upload(array) for name, array in arrays.items()}
        return uploaded, Repairs(forgotten, states, bool(exhausted))


@dataclass(frozen=True)
class Table:
    """A `StateTable` of one network: the state inputs that are its columns, and the number of its fresh rows."""

    columns: tuple[str, ...]
    count: str
    fresh: int
    next_id: str

    @classmethod
    def of(cls, table: StateTable, state_inputs: Iterable[TensorSpec], dimensions: Mapping[str, int]) -> Table:
        """The table over these state inputs."""
        columns = tuple(spec.name for spec in state_inputs if spec.shape[:1] == (table.rows,))
        return cls(columns, table.count, dimensions[table.fresh], table.next_id)


def forget_rows(arrays: Mapping[str, np.ndarray], table: Table) -> tuple[dict[str, np.ndarray], int]:
    """The state without rows that hold values that are not finite, and how many valid ones these were.

    The rows behind one that is taken out move up, zeros follow. The fresh rows come first, and stay.
    """
    by_row = {name: arrays[name] for name in table.columns}
    sound = np.all([np.isfinite(array).reshape(len(array), -1).all(1) for array in by_row.values()], axis=0)
    sound[: table.fresh] = True
    kept = np.flatnonzero(sound)
    moved = {name: np.zeros_like(array) for name, array in by_row.items()}
    for name, array in by_row.items():
        moved[name][: len(kept)] = array[kept]
    count = arrays[table.count]
    forgotten = int(np.count_nonzero(~sound[: count.item()]))
    return {**arrays, **moved, table.count: count - np.array(forgotten, count.dtype)}, forgotten


def check_next_ids(state: Mapping[str, np.ndarray], tables: Iterable[StateTable]) -> None:
    """Raise InputError for a state in which the next id of a table leaves no room for more of them."""
    for table in tables:
        next_id = state[table.next_id].item()
        if not 0 <= next_id <= NEXT_ID_LIMIT:
            official = [f" ({name})" for name, ours in RECURRENT.items() if ours == table.next_id]
            raise InputError(
                f"input {table.next_id!r}{''.join(official)} is {next_id}; it must lie between 0 and {NEXT_ID_LIMIT}"
            )
