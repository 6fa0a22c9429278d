"""A command that is stopped, at whatever moment, leaves nothing, says nothing, and takes its processes with it."""

from __future__ import annotations

import signal

import pytest

from tests.faults.bench import Bench


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_stopped(bench: Bench, number: signal.Signals) -> None:
    for moment in bench.moments():
        outcome = bench.stop(moment, number)
        assert outcome.status in ((128 + number,) if moment.change else (128 + number, 0)), (moment, outcome)
        assert outcome.errors == "", moment
        assert bench.hidden() == [], moment
        bench.check_whole()
