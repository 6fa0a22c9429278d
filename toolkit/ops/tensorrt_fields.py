"""Attributes of an op as TensorRT's plugin fields, as which an engine stores them."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from toolkit.errors import InputError
from toolkit.ops.spec import Attributes, CustomOp

FIELDS: Mapping[str, tuple[str, type[np.generic]]] = {
    "int": ("INT32", np.int32),
    "float": ("FLOAT32", np.float32),
    "bool": ("INT32", np.int32),
    "str": ("CHAR", np.int8),
    "List[int]": ("INT32", np.int32),
    "List[float]": ("FLOAT32", np.float32),
}
"""TensorRT's field type and the type of its items, by torch schema type; as the ONNX parser gives them."""


def plugin_fields(trt: ModuleType, op: CustomOp, values: Mapping[str, np.ndarray]) -> list[Any]:
    """A field for each attribute, as a view of its value: keep fields and values for as long as TensorRT reads them."""
    types = {name: getattr(trt.PluginFieldType, FIELDS[kind][0]) for name, kind in op.attributes.items()}
    return [trt.PluginField(name, values[name], types[name]) for name in op.attributes]


def no_values(op: CustomOp) -> dict[str, np.ndarray]:
    """Empty values of the fields' types, by which a plugin creator says what it takes."""
    return {name: np.empty(0, FIELDS[kind][1]) for name, kind in op.attributes.items()}


def encode(op: CustomOp, attributes: Attributes) -> dict[str, np.ndarray]:
    """The attributes as values of fields. Raises InputError for an integer beyond 32 bits."""
    return {name: _encode(op, name, kind, attributes[name]) for name, kind in op.attributes.items()}


def read_fields(op: CustomOp, fields: Any) -> dict[str, Any]:
    """The attributes in a collection of fields, from the ONNX parser or from an engine.

    Raises InputError if one is missing that has no default.
    """
    given = {field.name: field.data for field in fields}
    decoded = {name: _decode(kind, given[name]) for name, kind in op.attributes.items() if name in given}
    values = op.signature.values(decoded)
    missing = [name for name in op.attributes if name not in values]
    if missing:
        raise InputError(f"a node of op {op.name!r} lacks the attribute {missing[0]!r}; export the model again")
    return values


def _encode(op: CustomOp, name: str, kind: str, value: Any) -> np.ndarray:
    if kind == "str":
        return np.frombuffer(value.encode(), np.int8)
    items = np.atleast_1d(np.asarray(value))
    if FIELDS[kind][1] is np.int32 and items.size and not np.array_equal(items, items.astype(np.int32)):
        raise InputError(f"attribute {name!r} of op {op.name!r} is {value}; TensorRT plugins hold 32-bit integers")
    return items.astype(FIELDS[kind][1])


def _decode(kind: str, data: np.ndarray) -> Any:
    if kind == "str":
        return data.tobytes().rstrip(b"\0").decode()  # the parser keeps a terminating zero
    items = data.tolist()
    return items if kind.startswith("List") else items[0]
