"""Sizes that TensorRT knows only as expressions, with the arithmetic of integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Extent:
    """An `IDimensionExpr` to which ``+ - * //`` apply, also with integers."""

    trt: ModuleType
    builder: Any
    expression: Any

    def __add__(self, other: Extent | int) -> Extent:
        return self._combine("SUM", self, other)

    def __radd__(self, other: int) -> Extent:
        return self._combine("SUM", other, self)

    def __sub__(self, other: Extent | int) -> Extent:
        return self._combine("SUB", self, other)

    def __rsub__(self, other: int) -> Extent:
        return self._combine("SUB", other, self)

    def __mul__(self, other: Extent | int) -> Extent:
        return self._combine("PROD", self, other)

    def __rmul__(self, other: int) -> Extent:
        return self._combine("PROD", other, self)

    def __floordiv__(self, other: Extent | int) -> Extent:
        return self._combine("FLOOR_DIV", self, other)

    def _combine(self, operation: str, left: Extent | int, right: Extent | int) -> Extent:
        kind = getattr(self.trt.DimensionOperation, operation)
        return Extent(self.trt, self.builder, self.builder.operation(kind, self._of(left), self._of(right)))

    def _of(self, size: Extent | int) -> Any:
        return size.expression if isinstance(size, Extent) else self.builder.constant(size)


def to_expressions(trt: ModuleType, builder: Any, sizes: Sequence[Extent | int]) -> Any:
    """A shape as TensorRT's `DimsExprs`."""
    return trt.DimsExprs([size.expression if isinstance(size, Extent) else builder.constant(size) for size in sizes])
