"""Two commands that write one output at the same time: it comes from one of them, and whoever is late is told."""

from __future__ import annotations

from tests.faults.bench import Bench


def test_two_writers(bench: Bench) -> None:
    outcomes = [running.end() for running in [bench.start(), bench.start()]]
    assert {outcome.status for outcome in outcomes} <= {0, 2}
    assert any(outcome.status == 0 for outcome in outcomes)
    for outcome in outcomes:
        assert len(outcome.errors.splitlines()) == (1 if outcome.status else 0)
    assert bench.visible().keys() == bench.complete.keys()
    assert bench.hidden() == []
