"""Sizes that TensorRT knows only as expressions, with the arithmetic of integers."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from toolkit.ops.size_arithmetic import Operation, SizeArithmetic

OPERATIONS: Mapping[Operation, str] = {
    operator.add: "SUM",
    operator.sub: "SUB",
    operator.mul: "PROD",
    operator.floordiv: "FLOOR_DIV",
}
"""TensorRT's names."""


@dataclass(frozen=True)
class Extent(SizeArithmetic):
    """An `IDimensionExpr` to which ``+ - * //`` apply, also with integers."""

    trt: ModuleType
    builder: Any
    expression: Any

    def combine(self, operation: Operation, left: Extent | int, right: Extent | int) -> Extent:
        kind = getattr(self.trt.DimensionOperation, OPERATIONS[operation])
        return Extent(self.trt, self.builder, self.builder.operation(kind, self._of(left), self._of(right)))

    def _of(self, size: Extent | int) -> Any:
        return size.expression if isinstance(size, Extent) else self.builder.constant(size)


def to_expressions(trt: ModuleType, builder: Any, sizes: Sequence[Extent | int]) -> Any:
    """A shape as TensorRT's `DimsExprs`."""
    return trt.DimsExprs([size.expression if isinstance(size, Extent) else builder.constant(size) for size in sizes])
