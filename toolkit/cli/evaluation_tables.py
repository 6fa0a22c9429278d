"""Evaluations as tables for the terminal: figures by metric, and two evaluations side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from rich.table import Table
from rich.text import Text

from toolkit.cli.console import plain
from toolkit.evaluation.comparison import Compared, Other, Outcome
from toolkit.evaluation.evaluation_file import Evaluation
from toolkit.evaluation.figure_rows import NOTHING, Row, number, quantity_rows, single_rows
from toolkit.text import shown

_FEW, _ROWS = 4, 12
"""Classes of a quantity that are shown side by side, and rows of a metric, whose first figures matter most."""
_COLOURS = {Outcome.BETTER: "green", Outcome.WORSE: "red"}


def figure_table(evaluation: Evaluation, *, every: bool = False) -> Table:
    """All figures, each in a row, if `every`; else the first of each metric, those of one quantity in one row.

    Then those of many classes are only counted. A protocol is told where it begins.
    """
    table = Table(title=plain(f"{evaluation.frames} frames, {evaluation.session} session, {evaluation.precision}"))
    for heading in ("metric", "figure"):
        table.add_column(heading)
    table.add_column("value", justify="right" if every else "left")
    for heading in ("unit", "protocol", *(["reduction"] if every else [])):
        table.add_column(heading)
    shown_figures = 0
    for metric in evaluation.metrics:
        before = Row("", "", "", ("", ""), 0)
        for row in single_rows(metric) if every else islice(quantity_rows(metric, _FEW), _ROWS):
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
    table = Table(title=f"against {plain(other.path)}: {equal} of {len(compared)} figures are equal")
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


def _cell(text: str) -> Text:
    return Text(shown(text, 1000))
