"""The operators of sizes that TensorRT leaves open, which its APIs write as expressions of different kinds."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Self

Operation = Callable[[Any, Any], Any]
"""One of `operator.add`, `sub`, `mul` and `floordiv`."""


class SizeArithmetic:
    """``+ - * //`` between sizes and with integers on either side, by what `combine` makes of them."""

    def combine(self, operation: Operation, left: Self | int, right: Self | int) -> Self:
        """The size that an operation gives; one of its operands may be an integer."""
        raise NotImplementedError

    def __add__(self, other: Self | int) -> Self:
        return self.combine(operator.add, self, other)

    def __radd__(self, other: int) -> Self:
        return self.combine(operator.add, other, self)

    def __sub__(self, other: Self | int) -> Self:
        return self.combine(operator.sub, self, other)

    def __rsub__(self, other: int) -> Self:
        return self.combine(operator.sub, other, self)

    def __mul__(self, other: Self | int) -> Self:
        return self.combine(operator.mul, self, other)

    def __rmul__(self, other: int) -> Self:
        return self.combine(operator.mul, other, self)

    def __floordiv__(self, other: Self | int) -> Self:
        return self.combine(operator.floordiv, self, other)
