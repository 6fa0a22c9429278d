"""One frame of two sessions, tensor by tensor in execution order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.ma import MaskedArray, getdata, getmaskarray

from toolkit.bundle import Bundle
from toolkit.specs import Role, TensorSpec, Tolerance
from toolkit.verification.metrics import Errors, measure
from toolkit.verification.policy import Policy
from toolkit.verification.ranking import RowOrder, match_rows

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """One tensor of one frame: how far it differs and how far it may."""

    frame: int
    submodule: str
    tensor: str
    errors: Errors
    tolerance: Tolerance

    @property
    def measure(self) -> str:
        """The measure that comes closest to its bound, or exceeds it most: a field of `Tolerance`."""
        return max(self._bounded(), key=lambda name: _severity(getattr(self.errors, name), self._bound(name)))

    @property
    def error(self) -> float:
        return float(getattr(self.errors, self.measure))

    @property
    def bound(self) -> float:
        return self._bound(self.measure)

    @property
    def severity(self) -> float:
        """Error over bound; more than 1 is a failure."""
        return _severity(self.error, self.bound)

    @property
    def passed(self) -> bool:
        return self.severity <= 1

    def _bounded(self) -> list[str]:
        return [name for name in ("norm", "largest", "share") if getattr(self.tolerance, name) is not None]

    def _bound(self, name: str) -> float:
        return float(getattr(self.tolerance, name))


def _severity(error: float, bound: float) -> float:
    return error / bound if bound else (math.inf if error else 0.0)


def compare(bundle: Bundle, policy: Policy, frame: int, expected: Arrays, actual: Arrays) -> tuple[Comparison, ...]:
    """Every tensor that both sessions show, in execution order.

    Entries of masked arrays that are masked are not shown.
    """
    specs = {spec.name: spec for spec in bundle.outputs}
    shown = [(s.name, specs[t]) for s in bundle.submodules for t in s.outputs if t in expected and t in actual]
    expected, actual = shown_entries(expected, actual, [spec.name for _, spec in shown])
    orders = row_orders([spec for _, spec in shown], policy.ranking_gap, expected, actual)
    comparisons = []
    for submodule, spec in shown:
        pair = expected[spec.name], actual[spec.name]
        if spec.ranked_by in orders and spec.ranked_by != spec.name:
            order = orders[spec.ranked_by]
            pair = order.renumbered(*pair) if spec.role is Role.OBJECT_GRID else order.pair(*pair)
        errors = measure(*pair, angles=spec.angles)
        comparisons.append(Comparison(frame, submodule, spec.name, errors, policy.tolerance(spec)))
    return tuple(comparisons)


def shown_entries(expected: Arrays, actual: Arrays, names: Sequence[str]) -> tuple[Arrays, Arrays]:
    """The named arrays of both, with zeros wherever one of them is masked."""
    pairs = {name: (expected[name], actual[name]) for name in names}
    for name, (one, other) in pairs.items():
        if isinstance(one, MaskedArray) or isinstance(other, MaskedArray):
            hidden = getmaskarray(one) | getmaskarray(other)
            pairs[name] = np.where(hidden, 0, getdata(one)), np.where(hidden, 0, getdata(other))
    return {name: one for name, (one, _) in pairs.items()}, {name: other for name, (_, other) in pairs.items()}


def row_orders(specs: list[TensorSpec], gap: float, expected: Arrays, actual: Arrays) -> dict[str | None, RowOrder]:
    """How the rows of each ranking, by the name of its scores, pair up; only for scores that are at hand."""
    names = {spec.name for spec in specs}
    orders: dict[str | None, RowOrder] = {}
    for ranking in {spec.ranked_by for spec in specs} & names:
        assert ranking is not None
        scores = expected[ranking]
        ranked = [
            s.name
            for s in specs
            if s.ranked_by == ranking and s.role is not Role.OBJECT_GRID and len(expected[s.name]) == len(scores)
        ]
        orders[ranking] = match_rows(scores, [expected[n] for n in ranked], [actual[n] for n in ranked], gap)
    return orders
