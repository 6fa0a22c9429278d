"""A command that finds no room for what it writes says so in one line, and leaves things as they were."""

from __future__ import annotations

import re

from tests.faults.bench import Bench, Files
from tests.faults.forked import Fault


def test_disk_full(bench: Bench) -> None:
    for room in (0, bench.largest // 2, bench.largest - 1):
        outcome = bench.run(Fault(file_bytes=room))
        assert outcome.status == 2, (room, outcome.errors)
        assert re.fullmatch(r"error: cannot write .*; .*\n", outcome.errors), (room, outcome.errors)
        assert bench.hidden() == []
        assert without_kept(bench.visible()) == without_kept(bench.before)


def without_kept(files: Files) -> Files:
    """A build that fails keeps its log, and a run the frames that it had finished."""
    return {
        path: digest
        for path, digest in files.items()
        if not path.endswith(".log") and not path.startswith("out-partial/")
    }
