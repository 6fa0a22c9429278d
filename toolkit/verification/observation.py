"""What goes into a session and comes out of it, frame by frame, as numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from toolkit.bundle import Bundle
from toolkit.engines.session import Session
from toolkit.runtime.temporal_runner import TemporalRunner


@dataclass(frozen=True, eq=False)
class Observation:
    """One frame of a session: its inputs, state included, and all that it gave."""

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


def run_once(session: Session, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All outputs of one frame on the given inputs, state included."""
    produced = session.run({name: session.upload(array) for name, array in inputs.items()})
    return {name: session.download(tensor) for name, tensor in produced.items()}


class Observer:
    """Runs a session with state fed back, as every command does, and watches it.

    It stands between the runner and the session, so that the state seen is the one really fed back.
    """

    def __init__(self, bundle: Bundle, session: Session, start: Mapping[str, np.ndarray] | None = None) -> None:
        self.name = session.name
        self.session = session
        self.upload, self.download, self.finite = session.upload, session.download, session.finite
        self._seen: Observation | None = None
        self._runner = TemporalRunner(bundle, self, guarded=False)
        if start is not None:
            self._runner.start(start)

    def step(self, frame: Mapping[str, np.ndarray]) -> Observation:
        """Run the next frame of the sequence."""
        self._runner.step(frame)
        assert self._seen is not None
        return self._seen

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The watched session's `run`."""
        before = {name: self.download(tensor) for name, tensor in inputs.items()}
        outputs = self.session.run(inputs)
        self._seen = Observation(before, {name: self.download(tensor) for name, tensor in outputs.items()})
        return outputs
