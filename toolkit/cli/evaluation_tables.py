"""Evaluations as tables for the terminal: figures by metric, and two evaluations side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from toolkit.evaluation.comparison import Compared, Other, Outcome
from toolkit.evaluation.evaluation_file import Evaluation, FoundFigure, MetricFindings
from toolkit.text import shown

NOTHING = "–"
_COLOURS = {Outcome.BETTER: "green", Outcome.WORSE: "red"}


def figure_table(evaluation: Evaluation, *, every: bool = False) -> Table:
    """All figures; unless `every` one has a row of its own, those of one quantity share one, as L2 over time."""
    table = Table(title=f"{evaluation.frames} frames, {evaluation.session} session, {evaluation.precision}")
    for heading in ("metric", "figure"):
        table.add_column(heading)
    table.add_column("value", justify="right" if every else "left")
    for heading in ("unit", "protocol", *(["reduction"] if every else [])):
        table.add_column(heading)
    for metric in evaluation.metrics:
        for i, row in enumerate(_single_rows(metric) if every else _quantity_rows(metric)):
            table.add_row(*map(_cell, (metric.name if i == 0 else "", *row)))
        table.add_section()
    return table


def comparison_table(compared: Sequence[Compared], other: Other, *, every: bool = False) -> Table:
    """Figures beside those of another evaluation; unless `every`, those that are equal are only counted."""
    rows = [one for one in compared if every or one.outcome is not Outcome.EQUAL]
    equal = sum(one.outcome is Outcome.EQUAL for one in compared)
    table = Table(title=f"against {shown(other.path)}: {equal} of {len(compared)} figures are equal")
    table.add_column("figure")
    for heading in ("here", "there", "difference"):
        table.add_column(heading, justify="right")
    table.add_column("unit")
    table.add_column("")
    for one in rows:
        change = NOTHING if one.difference is None else f"{one.difference:+.4g}"
        numbers = (number(one.figure.value), number(one.other), change)
        outcome = Text(one.outcome.value, _COLOURS.get(one.outcome, ""))
        table.add_row(_cell(one.figure.name), *numbers, _cell(one.figure.unit), outcome)
    return table


def number(value: float | None) -> str:
    """Four digits, or all before the point."""
    if value is None:
        return NOTHING
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _single_rows(metric: MetricFindings) -> Iterator[tuple[str, ...]]:
    for figure in metric.figures:
        name = figure.name.removeprefix(f"{metric.name}/")
        yield name, number(figure.value), figure.unit, figure.protocol, figure.reduction


def _quantity_rows(metric: MetricFindings) -> Iterator[tuple[str, ...]]:
    """A row for each quantity, its values named by what follows it: by "1s" in L2@1s, by "car" in AP/car."""
    quantities: dict[str, list[tuple[str, FoundFigure]]] = defaultdict(list)
    for figure in metric.figures:
        name = figure.name.removeprefix(f"{metric.name}/")
        quantity, _, of = name.partition("@") if "@" in name else name.rpartition("/")
        quantities[quantity or name].append((of if quantity else "", figure))
    for quantity, members in quantities.items():
        values = "  ".join(f"{of} {number(figure.value)}".strip() for of, figure in members)
        first = members[0][1]
        yield quantity, values, first.unit, first.protocol


def _cell(text: str) -> Text:
    return Text(shown(text, 1000))
