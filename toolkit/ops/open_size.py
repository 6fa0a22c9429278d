"""Sizes that TensorRT leaves open until run time, in the arithmetic that a kernel's launch is planned with."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from toolkit.ops.size_arithmetic import Operation, SizeArithmetic


@dataclass(frozen=True, eq=False)
class OpenSize(SizeArithmetic):
    """A size of which the expression and the usual value are known; ``+ - * //`` apply, also with integers.

    Comparisons go by the usual value: what a plan chooses by them must be right for every size, best for the usual one.
    Everything else, `int()` among it, fails: it would make an engine that is right for one size only. `quick` is the
    module ``tensorrt.plugin``, whose `ShapeExpr` the expression is; there is no usual value while only types are known.
    """

    quick: ModuleType
    expression: Any
    usual: int | None = None

    def __eq__(self, other: object) -> bool:
        return self.usual == (other.usual if isinstance(other, OpenSize) else other)

    def __lt__(self, other: int | OpenSize) -> bool:
        return self._compare(operator.lt, other)

    def __le__(self, other: int | OpenSize) -> bool:
        return self._compare(operator.le, other)

    def __gt__(self, other: int | OpenSize) -> bool:
        return self._compare(operator.gt, other)

    def __ge__(self, other: int | OpenSize) -> bool:
        return self._compare(operator.ge, other)

    def _compare(self, comparison: Callable[[int, int], bool], other: int | OpenSize) -> bool:
        usual = other.usual if isinstance(other, OpenSize) else other
        assert self.usual is not None
        assert usual is not None
        return comparison(self.usual, usual)

    def combine(self, operation: Operation, left: int | OpenSize, right: int | OpenSize) -> OpenSize:
        expressions, values = [], []
        for size in (left, right):
            expressions.append(size.expression if isinstance(size, OpenSize) else self.quick.ShapeExpr(size))
            values.append(size.usual if isinstance(size, OpenSize) else size)
        usual = None if None in values else operation(*values)
        return OpenSize(self.quick, operation(*expressions), usual)
