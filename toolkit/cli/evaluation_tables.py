"""Evaluations as tables for the terminal: figures by metric, and two evaluations side by side."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from rich.table import Table
from rich.text import Text

from toolkit.evaluation.comparison import Compared, Other, Outcome
from toolkit.evaluation.evaluation_file import Evaluation, FoundFigure, MetricFindings
from toolkit.text import shown

NOTHING = "–"
_FEW, _ROWS = 4, 12
"""Classes of a quantity that are shown side by side, and rows of a metric, whose first figures matter most."""
_COLOURS = {Outcome.BETTER: "green", Outcome.WORSE: "red"}


@dataclass(frozen=True)
class Row:
    """A row of the table, of one figure or several: their names and values, `rules` are protocol and reduction."""

    name: str
    value: str
    unit: str
    rules: tuple[str, str]
    figures: int


def figure_table(evaluation: Evaluation, *, every: bool = False) -> Table:
    """All figures, each in a row, if `every`; else the first of each metric, those of one quantity in one row.

    Then those of many classes are only counted. A protocol is told where it begins.
    """
    table = Table(title=f"{evaluation.frames} frames, {evaluation.session} session, {evaluation.precision}")
    for heading in ("metric", "figure"):
        table.add_column(heading)
    table.add_column("value", justify="right" if every else "left")
    for heading in ("unit", "protocol", *(["reduction"] if every else [])):
        table.add_column(heading)
    shown_figures = 0
    for metric in evaluation.metrics:
        before = Row("", "", "", ("", ""), 0)
        for row in _single_rows(metric) if every else islice(_quantity_rows(metric), _ROWS):
            rules = ["" if new == old else new for new, old in zip(row.rules, before.rules, strict=True)]
            name = "" if before.figures else metric.name
            table.add_row(*map(_cell, (name, row.name, row.value, row.unit, *rules[: 1 + every])))
            shown_figures += row.figures
            before = row
        table.add_section()
    hidden = len(evaluation.figures) - shown_figures
    if hidden:
        table.caption = f"{hidden} figures, most of single classes, are left out; --all shows them"
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
    """Four digits, or all before the point; two of what is almost nothing."""
    if value is None:
        return NOTHING
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4g}"


def _single_rows(metric: MetricFindings) -> Iterator[Row]:
    for figure in metric.figures:
        name = figure.name.removeprefix(f"{metric.name}/")
        yield Row(name, number(figure.value), figure.unit, (figure.protocol, figure.reduction), 1)


def _quantity_rows(metric: MetricFindings) -> Iterator[Row]:
    """A row for each quantity, its values named by what follows it: by "1s" in L2@1s, by "car" in AP/car."""
    quantities: dict[str, list[tuple[str, FoundFigure]]] = defaultdict(list)
    names = [figure.name.removeprefix(f"{metric.name}/") for figure in metric.figures]
    classes = Counter(name.rpartition("/")[0] for name in names if "@" not in name)
    for name, figure in zip(names, metric.figures, strict=True):
        quantity, _, of = name.partition("@") if "@" in name else name.rpartition("/")
        if not quantity or classes[quantity] == 1:
            quantities[name].append(("", figure))
        elif "@" in name or classes[quantity] <= _FEW:
            quantities[quantity].append((of, figure))
    for quantity, members in quantities.items():
        values = "  ".join(f"{of} {number(figure.value)}".strip() for of, figure in members)
        first = members[0][1]
        yield Row(quantity, values, first.unit, (first.protocol, first.reduction), len(members))


def _cell(text: str) -> Text:
    return Text(shown(text, 1000))
