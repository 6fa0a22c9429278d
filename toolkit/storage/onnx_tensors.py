"""The tensors of an ONNX model, wherever they stand in it, and whether they hold what they state."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import Message
from onnx import ModelProto, TensorProto, TypeProto

from toolkit.errors import InputError
from toolkit.text import one_line, quoted

TYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}
BITS = {"BOOL": 8, "FLOAT": 32, "DOUBLE": 64, "STRING": 0}
"""Of an element, for types whose names do not tell; text is not stored as bytes."""

MOST_DIMENSIONS = 64
"""As numpy has it."""


def messages_in(message: Message) -> Iterator[Message]:
    """A message and all within it."""
    waiting = [message]
    while waiting:
        message = waiting.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting += [value] if isinstance(value, Message) else value


def count_parts(model: ModelProto, most: int) -> int:
    """The number of messages and names that a model lists, all within it included; not counted on beyond `most`."""
    parts = 0
    for message in messages_in(model):
        for field, value in message.ListFields():
            if not isinstance(value, Message | str) and (field.message_type or field.type == field.TYPE_STRING):
                parts += len(value)
        if parts > most:
            break
    return parts


def undecodable_text(model: ModelProto) -> bytes | None:
    """A name or another text of a model that is no UTF-8, which protobuf hands out as bytes; None if there is none."""
    for message in messages_in(model):
        for field, value in message.ListFields():
            if field.type == field.TYPE_STRING:
                texts = [value] if isinstance(value, str | bytes) else value
                if (text := next((text for text in texts if isinstance(text, bytes)), None)) is not None:
                    return text
    return None


def tensors_in(model: ModelProto) -> Iterator[TensorProto]:
    """Weights, parts of sparse ones, and tensors among the attributes, of inner graphs and functions too."""
    return (message for message in messages_in(model) if isinstance(message, TensorProto))


def check_tensors(model: ModelProto, path: Path) -> None:
    """Raise InputError, naming it, for a tensor of a type that ONNX lacks, or with other values than its shape needs.

    What external weights hold is for `toolkit.storage.external_weights` to tell.
    """
    for message in messages_in(model):
        fault = ""
        if isinstance(message, TensorProto):
            fault = fault_of(message)
        elif isinstance(message, TypeProto.Tensor | TypeProto.SparseTensor):
            fault = "" if message.elem_type in {0, *TYPES} else f"a value has the unknown type {message.elem_type}"
        if fault:
            raise InputError(f"ONNX model {path}: {fault}; export it again")


def fault_of(tensor: TensorProto) -> str:
    """What is wrong with a tensor; empty if nothing."""
    name = f"tensor {quoted(tensor.name)}"
    try:
        size = stated_bytes(tensor)
        if tensor.data_location == TensorProto.EXTERNAL:
            return ""
        if tensor.data_type == TensorProto.STRING:
            if len(tensor.string_data) != math.prod(tensor.dims):
                return f"{name} has {len(tensor.string_data)} texts where {math.prod(tensor.dims)} are stated"
        elif not tensor.HasField("raw_data"):
            onnx.numpy_helper.to_array(tensor)
        elif len(tensor.raw_data) != size:
            return f"{name} has {len(tensor.raw_data)} bytes where {quoted(size)} are stated"
    except Exception as error:  # of numpy, for the wrong number of values
        return f"{name} cannot be read: {one_line(error)}"
    return ""


def stated_bytes(tensor: TensorProto) -> int:
    """The size of a tensor's values by its type and shape. Raises ValueError if these make no sense."""
    if tensor.data_type not in TYPES:
        raise ValueError(f"ONNX has no type {tensor.data_type}")
    if len(tensor.dims) > MOST_DIMENSIONS:
        raise ValueError(f"it has {len(tensor.dims)} dimensions, the most is {MOST_DIMENSIONS}")
    if any(size < 0 for size in tensor.dims):
        raise ValueError(f"its shape is {quoted(list(tensor.dims))}")
    name = TensorProto.DataType.Name(tensor.data_type)
    bits = BITS[name] if name in BITS else int(re.findall(r"\d+", name)[0])
    return -(-int(math.prod(tensor.dims)) * bits // 8)
