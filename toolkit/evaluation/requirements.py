"""What an evaluation must reach, as a gate: `planning/L2@3s<=1.1`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from toolkit.errors import InputError
from toolkit.evaluation.evaluation_file import Evaluation
from toolkit.text import quoted

_FORM = re.compile(
    r"\s*([^<>=]+?)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*", re.ASCII | re.IGNORECASE
)
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Requirement:
    """That a figure, by its full name, compares with a bound in a way."""

    figure: str
    comparison: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """From a form such as "planning/L2@3s<=1.1". Raises InputError for anything else."""
        match = _FORM.fullmatch(text)
        if match is None or math.isinf(float(match[3])):
            raise InputError(f"--require {quoted(text)} is not FIGURE<=NUMBER, with <=, >=, < or >")
        return cls(match[1], match[2], float(match[3]))

    @property
    def metric(self) -> str:
        """The name of the metric whose figure it is."""
        return self.figure.partition("/")[0]

    def __str__(self) -> str:
        return f"{self.figure} {self.comparison} {self.bound:g}"


def failures(evaluation: Evaluation, requirements: Sequence[Requirement]) -> list[str]:
    """A sentence for each requirement that does not hold; a figure without a value holds none.

    Raises InputError for a figure that the evaluation does not have, if its metric has judged at all.
    """
    figures = evaluation.figures
    judged = {metric.name for metric in evaluation.metrics if metric.figures}
    failed = []
    for required in requirements:
        if required.figure not in figures and required.metric in judged:
            raise InputError(f"--require {required}: there is no such figure{_suggestion(required.figure, figures)}")
        found = figures.get(required.figure)
        if found is None or found.value is None:
            failed.append(f"{required} does not hold: there was nothing to judge")
        elif not _COMPARISONS[required.comparison](found.value, required.bound):
            failed.append(f"{required} does not hold: it is {found.value:.6g}")
    return failed


def require_metrics(requirements: Sequence[Requirement], metrics: Sequence[str]) -> None:
    """Raise InputError for a requirement of a metric that does not judge."""
    for required in requirements:
        if required.metric not in metrics:
            raise InputError(
                f"--require {required}: there is no metric {quoted(required.metric)} here; figures begin with one of "
                f"{', '.join(f'{name}/' for name in metrics)}"
            )


def _suggestion(name: str, known: Mapping[str, object]) -> str:
    close = get_close_matches(name, known, n=4, cutoff=0.5) or list(known)[:4]
    return (
        f"; there are {', '.join(close)} and others" if len(known) > len(close) else f"; there are {', '.join(close)}"
    )
