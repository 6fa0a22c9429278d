"""A command that is stopped, at whatever moment, leaves nothing, says nothing, and takes its processes with it."""

from __future__ import annotations

import signal

import pytest

from tests.faults.bench import Bench
from tests.faults.commands import QUICK


def test_terminated(bench: Bench) -> None:
    check_stops(bench, signal.SIGTERM)


@pytest.mark.parametrize("bench", QUICK, indirect=True, ids=lambda command: command.name)
def test_interrupted(bench: Bench) -> None:
    check_stops(bench, signal.SIGINT)


def check_stops(bench: Bench, number: signal.Signals) -> None:
    """By a signal at ten moments; a moment that goes by time may be too late."""
    for moment in bench.moments():
        outcome = bench.stop(moment, number)
        assert outcome.status in ((128 + number,) if moment.change else (128 + number, 0)), (moment, outcome)
        assert outcome.errors == "", moment
        assert bench.hidden() == [], moment
        bench.check_whole()
