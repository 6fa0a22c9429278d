"""Two evaluations side by side: figure by figure, and which is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from toolkit.config.file import read_toml
from toolkit.errors import InputError
from toolkit.evaluation.evaluation_file import Evaluation, FoundFigure, read_evaluation
from toolkit.storage.json_file import read_json, refusing
from toolkit.storage.typed import decode

_REMEDY = 'give an evaluation, or figures by name, such as {"planning/L2@3s": 1.1}'
_FORMAT = "metrics"
"""A field that a file of published figures does not have."""


class Outcome(StrEnum):
    """How a figure compares with the other one."""

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equal"
    UNKNOWN = ""


@dataclass(frozen=True)
class Other:
    """Figures to compare with, by their full names; `evaluation` is None if somebody has published them."""

    path: Path
    values: Mapping[str, float | None]
    evaluation: Evaluation | None


@dataclass(frozen=True)
class Compared:
    """A figure beside another of the same name."""

    figure: FoundFigure
    other: float | None

    @property
    def difference(self) -> float | None:
        """Ours less the other; None where one of them has no value."""
        return None if self.figure.value is None or self.other is None else self.figure.value - self.other

    @property
    def outcome(self) -> Outcome:
        """What the difference means for ours; two without a value are equal."""
        if self.figure.value == self.other:
            return Outcome.EQUAL
        if self.difference is None:
            return Outcome.UNKNOWN
        return Outcome.BETTER if (self.difference > 0) == self.figure.higher_is_better else Outcome.WORSE


def read_other(path: Path) -> Other:
    """An evaluation (its folder or metrics.json), or a JSON or TOML file of figures by name. Raises InputError."""
    if path.is_dir():
        return _of_evaluation(path)
    values = read_toml(path, "file of figures", _REMEDY) if path.suffix == ".toml" else read_json(path, _REMEDY)
    if isinstance(values, dict) and _FORMAT in values:
        return _of_evaluation(path)
    with refusing(path, _REMEDY, "holds no figures"):
        figures = decode(dict[str, float], values)
    if not figures:
        raise InputError(f"{path} holds no figures; {_REMEDY}")
    return Other(path, figures, None)


def compare(evaluation: Evaluation, other: Other) -> list[Compared]:
    """The figures that both have, in the order of the evaluation."""
    return [Compared(figure, other.values[name]) for name, figure in evaluation.figures.items() if name in other.values]


def unlike(evaluation: Evaluation, other: Evaluation) -> list[str]:
    """What two evaluations do not have in common, as "data a, not b": figures of other frames say little."""
    pairs: dict[str, tuple[Any, Any]] = {
        name: (getattr(evaluation, name), getattr(other, name)) for name in ("data", "frames", "decoder", "refinements")
    }
    return [f"{name} {own}, not {theirs}" for name, (own, theirs) in pairs.items() if own != theirs]


def _of_evaluation(path: Path) -> Other:
    evaluation = read_evaluation(path)
    return Other(path, {name: figure.value for name, figure in evaluation.figures.items()}, evaluation)
