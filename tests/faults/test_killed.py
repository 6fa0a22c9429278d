"""A command that is killed, at whatever moment, leaves hidden files at most, and the next run removes them."""

from __future__ import annotations

import signal

from tests.faults.bench import Bench
from tests.faults.forked import Running


def test_killed(bench: Bench) -> None:
    for moment in bench.moments():
        outcome = bench.stop(moment, signal.SIGKILL)
        assert outcome.status in ((-signal.SIGKILL,) if moment.change else (-signal.SIGKILL, 0)), moment
        bench.check_whole()
    again = bench.run()
    assert (again.status, again.errors) == (0, "")
    assert bench.visible().keys() == bench.complete.keys()
    assert bench.hidden() == []
    if bench.proof:
        assert Running(bench.proof, bench.folder).end().status == 0
