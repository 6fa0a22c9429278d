"""What the commands print: steps with their times, errors on one line, where outputs went."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def print_error(message: str) -> None:
    errors.print(f"[bold red]error:[/] {escape(visible(message))}")


def print_warning(message: str) -> None:
    errors.print(f"[bold yellow]warning:[/] {escape(visible(message))}")


def visible(text: str) -> str:
    """The text with an escape in place of what a terminal would obey or could not show, line breaks apart."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def print_trace(line: str) -> None:
    errors.print(f"[dim]trace:[/] {escape(line)}")


def print_written(path: Path, what: str) -> None:
    console.print(f"[green]wrote[/] {what}: {escape(str(path))}", soft_wrap=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Show a running step, then its duration."""
    started = time.perf_counter()
    with console.status(name):
        yield
    console.print(f"  [dim]{time.perf_counter() - started:6.1f} s[/]  {escape(name)}", soft_wrap=True)
