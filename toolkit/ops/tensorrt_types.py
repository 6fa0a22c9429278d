"""The types of an op's tensors in TensorRT."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from toolkit.ops.signature import Port
from toolkit.ops.spec import CustomOp

NAMES = {"float32": "FLOAT", "int32": "INT32", "int64": "INT64", "bool": "BOOL"}
"""TensorRT's names of types that a tensor of an op can have for itself."""


def own_type(trt: ModuleType, dtype: str) -> Any:
    """TensorRT's constant for the type that an op states for a tensor."""
    return getattr(trt.DataType, NAMES[dtype])


def output_type(trt: ModuleType, op: CustomOp, port: Port, inputs: Sequence[Any]) -> Any:
    """The type of an output, from those of the inputs."""
    if port.dtype is not None:
        return own_type(trt, port.dtype)
    assert op.signature.shared is not None
    return inputs[op.signature.shared]
