"""Figures of a metric in rows, as tables for people have them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.evaluation.evaluation_file import FoundFigure, MetricFindings

NOTHING = "–"


@dataclass(frozen=True)
class Row:
    """A row of the table, of one figure or several: their names and values, `rules` are protocol and reduction."""

    name: str
    value: str
    unit: str
    rules: tuple[str, str]
    figures: int


def number(value: float | None) -> str:
    """Four digits, or all before the point; two of what is almost nothing."""
    if value is None:
        return NOTHING
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4g}"


def single_rows(metric: MetricFindings) -> Iterator[Row]:
    """A row for each figure."""
    for figure in metric.figures:
        name = figure.name.removeprefix(f"{metric.name}/")
        yield Row(name, number(figure.value), figure.unit, (figure.protocol, figure.reduction), 1)


def quantity_rows(metric: MetricFindings, most: float = math.inf) -> Iterator[Row]:
    """A row for each quantity, its values named by what follows it: by "1s" in L2@1s, by "car" in AP/car.

    Quantities of more than so many classes are left out.
    """
    quantities: dict[str, list[tuple[str, FoundFigure]]] = defaultdict(list)
    names = [figure.name.removeprefix(f"{metric.name}/") for figure in metric.figures]
    classes = Counter(name.rpartition("/")[0] for name in names if "@" not in name)
    for name, figure in zip(names, metric.figures, strict=True):
        quantity, _, of = name.partition("@") if "@" in name else name.rpartition("/")
        if not quantity or classes[quantity] == 1:
            quantities[name].append(("", figure))
        elif "@" in name or classes[quantity] <= most:
            quantities[quantity].append((of, figure))
    for quantity, members in quantities.items():
        values = "  ".join(f"{of} {number(figure.value)}".strip() for of, figure in members)
        first = members[0][1]
        yield Row(quantity, values, first.unit, (first.protocol, first.reduction), len(members))
