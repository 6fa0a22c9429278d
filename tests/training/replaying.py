"""In place of CUDA graphs: what is recorded runs anew, into the memory of its first outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from toolkit.training.graphs import Recorded, Run


def record_on_the_cpu(runs: Sequence[Run]) -> list[Recorded]:
    """A recorder, see `toolkit.training.graphs.Recorder`."""
    return [_recorded(run) for run in runs]


def capture_on_the_cpu(run: Run) -> Recorded:
    """A capture, see `toolkit.training.graphs.Capture`, of a run that gives one number."""
    output = torch.zeros(())

    def replay() -> None:
        (number,) = run()
        assert number is not None
        output.copy_(number)

    return Recorded((output,), replay)


def _recorded(run: Run) -> Recorded:
    outputs = run()

    def replay() -> None:
        with torch.enable_grad():
            anew = run()
        with torch.no_grad():
            for old, new in zip(outputs, anew, strict=True):
                if old is not None and new is not None:
                    old.detach().copy_(new)

    return Recorded(outputs, replay)
