"""What `rewrite` prints."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from rich.table import Column, Table

from toolkit.cli.console import console, plain, print_line
from toolkit.graph.graph_pass import Change, GraphPass
from toolkit.graph.provenance import PassRun
from toolkit.text import shown

LISTED = 3
"""Changes of one kind that are listed one by one; more are counted."""


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


def show_deviations(deviations: Mapping[str, float]) -> None:
    """How far each output is from what it was."""
    table = Table("output", Column("deviation", justify="right"))
    for name, deviation in deviations.items():
        table.add_row(plain(name), f"{deviation:.1e}" if math.isfinite(deviation) else "of another shape or not finite")
    console.print(table)


def show_explanation(runs: Sequence[PassRun]) -> None:
    """Every place that a pass left alone, with reason and remedy; then what each changed, and which found nothing."""
    for run in runs:
        if run.outcome.near_misses:
            console.print(f"[bold]{plain(run.name)}[/]")
        for miss in run.outcome.near_misses:
            show_line("left alone", miss.node, f"{miss.reason}; {miss.remedy}" if miss.remedy else miss.reason)
    for run in runs:
        if run.outcome.changes:
            console.print(f"[bold]{plain(run.name)}[/]")
        show_changes(run.outcome.changes)
    if idle := [run.name for run in runs if not run.outcome.changes and not run.outcome.near_misses]:
        print_line(f"nothing to do: {', '.join(idle)}")


def show_changes(changes: Sequence[Change]) -> None:
    """Changes in the order in which they were made; many of one kind in one line."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for change in changes:
        kinds[change.what].append(change.node)
    for what, nodes in kinds.items():
        if len(nodes) > LISTED:
            print_line(f"  changed {len(nodes)} nodes, such as {shown(nodes[0])}: {what}")
        else:
            for node in nodes:
                show_line("changed", node, what)


def show_line(what: str, node: str, text: str) -> None:
    """One node of an explanation; names and reasons may come from the model."""
    print_line(f"  {what} {shown(node)}: {text}")
