"""What `rewrite` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Column, Table

from toolkit.cli.console import console, plain, print_line
from toolkit.graph.graph_pass import GraphPass
from toolkit.graph.provenance import PassRun
from toolkit.text import shown


def show_passes(passes: Sequence[GraphPass]) -> None:
    """Each pass, whether it runs unasked, and why it exists."""
    table = Table(Column("pass", no_wrap=True), "default", "why")
    for graph_pass in passes:
        table.add_row(plain(graph_pass.name), "yes" if graph_pass.default else "no", plain(graph_pass.reason))
    console.print(table)


def show_runs(runs: Sequence[PassRun]) -> None:
    """Nodes before and after each pass."""
    right = [Column(name, justify="right") for name in ("nodes before", "after", "changes", "left alone")]
    table = Table(Column("pass", no_wrap=True), *right)
    for run in runs:
        counts = (run.nodes_before, run.nodes_after, len(run.outcome.changes), len(run.outcome.near_misses))
        table.add_row(plain(run.name), *map(str, counts))
    console.print(table)


def show_explanation(runs: Sequence[PassRun]) -> None:
    """Every change, and every place that a pass left alone with the reason."""
    for run in runs:
        console.print(f"[bold]{plain(run.name)}[/]")
        for change in run.outcome.changes:
            show_line("changed", change.node, change.what)
        for miss in run.outcome.near_misses:
            show_line("left alone", miss.node, miss.reason)
        if not run.outcome.changes and not run.outcome.near_misses:
            console.print("  nothing to do")


def show_line(what: str, node: str, text: str) -> None:
    """One node of an explanation; names and reasons may come from the model."""
    print_line(f"  {what} {shown(node)}: {text}")
