"""The entry point: what can end a command from outside is provided for before anything is imported that takes time."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from toolkit.cli.exit_status import BAD_INPUT, READER_LEFT
from toolkit.stops import stops_interrupt


def main() -> None:
    """Entry point of the console script."""
    status = 0
    with stops_interrupt() as stop:
        status = run_guarded(sys.argv[1:])
    gc.freeze()  # or Python looks through all that torch made once more before it ends, which takes up to a second
    sys.exit(stop.status if stop.number else status)


def run_guarded(arguments: Sequence[str]) -> int:
    """Run one command whose output may be lost: quietly 141 if its reader has left, 2 if it cannot be written."""
    from toolkit.streams import OutputLost, guard_streams

    guard_streams()
    try:
        status = run(arguments)
        print(end="", flush=True)
    except OutputLost as lost:
        if lost.reader_left:
            return READER_LEFT
        print(f"error: {lost}", file=sys.stderr)
        return BAD_INPUT
    return status


def run(arguments: Sequence[str]) -> int:
    """Run one command; 0 done, 1 a check failed, 2 bad input or usage."""
    from toolkit.cli.application import run_command

    return run_command(arguments)
