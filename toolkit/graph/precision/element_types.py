"""Element types of a graph's tensors, and which of a node's tensors may take another floating-point type."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.defs
from onnx.defs import OpSchema, SchemaError

from toolkit.ops.spec import DOMAIN

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

FLOAT32 = np.dtype(np.float32)
STANDARD_DOMAINS = (None, "", "ai.onnx")


@dataclass(frozen=True)
class Ports:
    """Positions of a node's inputs and outputs that are FP32 now and that the operator also has in a reduced type."""

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()


def reducible_ports(node: gs.Node, opset: int, dtype: np.dtype, schemas: Mapping[str, OpSchema]) -> Ports:
    """Which FP32 tensors of a node its operator could take in `dtype`.

    None for an operator that the standard does not define in that opset, custom ops of domain ``uniad`` aside: these
    say so in `schemas`, by name; without one, all of their tensors share a type. None either where the type of a tensor
    is unknown.
    """
    if not known_types(node):
        return Ports()
    inputs, outputs = ([i for i, t in enumerate(ts) if is_float32(t)] for ts in (node.inputs, node.outputs))
    schema = schemas.get(node.op) if node.domain == DOMAIN else standard_schema(node, opset)
    if schema is None and node.domain != DOMAIN:
        return Ports()
    if schema is not None:
        element = f"tensor({dtype.name})"
        inputs = [i for i in inputs if element in parameter(schema.inputs, i).types]
        outputs = [i for i in outputs if element in parameter(schema.outputs, i).types]
    return Ports(tuple(inputs), tuple(outputs))


def known_types(node: gs.Node) -> bool:
    """Whether all tensors of a node have a type; those that are left out need none."""
    return all(tensor.dtype is not None or tensor.is_empty() for tensor in (*node.inputs, *node.outputs))


def is_float32(tensor: gs.Tensor) -> bool:
    """Whether a tensor is known to hold FP32."""
    return has_type(tensor, FLOAT32)


def has_type(tensor: gs.Tensor, dtype: np.dtype) -> bool:
    """Whether a tensor is known to hold `dtype`; onnx-graphsurgeon gives BF16 as ONNX's number of it."""
    code = tensor.dtype
    return bool(code == onnx_type(dtype) if isinstance(code, int) else code is not None and np.dtype(code) == dtype)


def onnx_type(dtype: np.dtype) -> int:
    """ONNX's number of a numpy type."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def parameter(parameters: Sequence[OpSchema.FormalParameter], position: int) -> OpSchema.FormalParameter:
    """The formal parameter at a position; the last one may be repeated."""
    return parameters[min(position, len(parameters) - 1)]


def standard_schema(node: gs.Node, opset: int) -> OpSchema | None:
    """The standard's definition of a node's operator in an opset."""
    return _schema(node.op, opset) if node.domain in STANDARD_DOMAINS else None


@functools.cache
def _schema(op: str, opset: int) -> OpSchema | None:
    try:
        return onnx.defs.get_schema(op, opset, "")
    except SchemaError:
        return None
