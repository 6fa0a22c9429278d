"""Which sizes a kernel's plan needs as numbers, found by planning a launch with one size after another left open."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from toolkit.ops.calls import Call
from toolkit.ops.open_size import OpenSize

AS_NUMBERS: Any = SimpleNamespace(ShapeExpr=int)
"""Expressions that are the usual sizes themselves, for they go nowhere."""


def fixed_axes(call: Call) -> list[str]:
    """The axes of inputs whose sizes must be fixed where the kernel is embedded in an engine, as ``input[axis]``."""
    return [
        f"{name}[{axis}]"
        for position, name in enumerate(call.op.inputs)
        for axis in range(len(call.shapes[position]))
        if not can_be_open(call, position, axis)
    ]


def can_be_open(call: Call, position: int, axis: int) -> bool:
    """Whether the plan keeps to what can be done with a size that is open: no other arithmetic, and no macro of it."""
    assert call.op.kernel is not None
    shapes = [list(shape) for shape in call.shapes]
    shapes[position][axis] = cast(Any, OpenSize(AS_NUMBERS, shapes[position][axis], shapes[position][axis]))
    try:
        launch = call.op.kernel.plan(shapes, call.strides, "float32", call.attributes)
    except (TypeError, AttributeError):  # of an operation, or a method, that integers alone have
        return False
    return not any(isinstance(value, OpenSize) or "OpenSize(" in str(value) for value in launch.macros.values())
