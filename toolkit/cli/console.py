"""What the commands print: steps with their times, errors on one line, where outputs went."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, ConsoleDimensions
from rich.markup import escape

from toolkit.stops import stops_blocked
from toolkit.text import LONGEST, LONGEST_LINE, shown

UNCUT = 10_000
"""Columns of an output that has no width of its own: more than any table of the toolkit takes."""


class UncutConsole(Console):
    """As wide as a table needs where no terminal reads it, so that no cell is cut or folded; COLUMNS says otherwise."""

    @property  # type: ignore[misc]  # rich's can be set, which nothing does
    def size(self) -> ConsoleDimensions:
        size = super().size
        if "COLUMNS" in os.environ or self.file.isatty():
            return size
        return ConsoleDimensions(UNCUT, size.height)


console = UncutConsole(highlight=False, emoji=False)
progress = Console(highlight=False, emoji=False)
"""For how far a command is: silent where only what it gives is wanted."""
errors = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def plain(text: str | Path, limit: int = LONGEST) -> str:
    """Text from anywhere as part of rich's markup: shown as it is, on one line (`shown`)."""
    return escape(shown(text, limit))


def print_error(message: str, *rows: str) -> None:
    """One line, and the rows of a table below it."""
    errors.print(f"[bold red]error:[/] {plain(message, LONGEST_LINE)}")
    for row in rows:
        errors.print(plain(row, LONGEST_LINE))


def print_warning(message: str) -> None:
    errors.print(f"[bold yellow]warning:[/] {plain(message, LONGEST_LINE)}")


def print_trace(line: str) -> None:
    errors.print(f"[dim]trace:[/] {plain(line, LONGEST_LINE)}")


def print_note(text: str) -> None:
    """Something that the user should know about a command that did what was asked."""
    console.print(f"[yellow]note[/]  {plain(text, LONGEST_LINE)}", soft_wrap=True)


def print_line(text: str) -> None:
    console.print(plain(text, LONGEST_LINE), soft_wrap=True)


def print_written(path: Path, what: str) -> None:
    console.print(f"[green]wrote[/] {plain(what)}: {plain(path, LONGEST_LINE)}", soft_wrap=True)


@contextmanager
def without_progress(wanted: bool) -> Iterator[None]:
    """Whether progress is left out, until the end of the block."""
    before, progress.quiet = progress.quiet, wanted
    try:
        yield
    finally:
        progress.quiet = before


@contextmanager
def step(name: str) -> Iterator[None]:
    """Show a running step, then its duration."""
    started = time.perf_counter()
    status = progress.status(plain(name))
    with stops_blocked():  # for the thread that draws it: a stop concerns the main thread alone
        status.start()
    try:
        yield
    finally:
        status.stop()
    print_duration(time.perf_counter() - started, name)


def print_duration(seconds: float, what: str) -> None:
    progress.print(f"  [dim]{seconds:6.1f} s[/]  {plain(what, LONGEST_LINE)}", soft_wrap=True)
