"""How a benchmark is started: what is wrong with what it is given is one line, as of the toolkit's own commands."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from toolkit.cli.exit_status import BAD_INPUT, CHECK_FAILED
from toolkit.errors import CheckFailed, InputError


def run_benchmark(main: Callable[..., None]) -> None:
    """Run `main` with the options of the command line. Exits with 2 for bad input, 1 for a failed check."""
    try:
        typer.run(main)
    except (InputError, CheckFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT if isinstance(error, InputError) else CHECK_FAILED)
