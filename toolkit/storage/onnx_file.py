"""ONNX files of any origin, as far as they can be read without their external weights."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto

from toolkit.bounded.limits import is_out_of_memory
from toolkit.bounded.memory import memory_limit
from toolkit.errors import InputError
from toolkit.storage.external_weights import external_names, is_there
from toolkit.storage.onnx_tensors import count_parts, undecodable_text
from toolkit.storage.regular_file import readable_file
from toolkit.text import one_line, quoted

MAX_BYTES = 2**31
"""The largest file that protobuf reads; weights that need more lie in a file of their own."""
SPARE, BYTES_PER_BYTE = 2**28, 2
"""Memory that reading a file may take, by its size: a message of two bytes takes hundreds."""
MOST_PARTS = 2**19
"""Nodes, weights, attributes, names and the like of a model. A node with its values has about ten."""


def model_files(path: Path) -> list[Path]:
    """An ONNX file, and those of its weights that are there. Raises InputError as `parse_model` does."""
    names = external_names(parse_model(path))
    return [path, *(path.parent / name for name in names if is_there(path, name))]


def parse_model(path: Path) -> ModelProto:
    """The model in a file, without external weights. Raises InputError for a file that is missing or holds none."""
    path = readable_file(path, "ONNX model")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"ONNX model {path} is larger than the format allows, {MAX_BYTES} bytes; export it again")
    try:
        with memory_limit(SPARE + BYTES_PER_BYTE * path.stat().st_size):
            model = onnx.load(path, load_external_data=False)
    # Foreign bytes can make the parser fail in any way.
    except Exception as error:
        if is_out_of_memory(error):
            raise InputError(
                f"ONNX model {path} cannot be read: it takes more memory than a file of its size should; "
                "export it again"
            ) from error
        raise InputError(f"ONNX model {path} cannot be read: {one_line(error)}; export it again") from error
    if count_parts(model, MOST_PARTS) > MOST_PARTS:
        raise InputError(f"ONNX model {path} has more than {MOST_PARTS} parts, which no network needs; export it again")
    if (text := undecodable_text(model)) is not None:
        raise InputError(f"ONNX model {path} has a text that is no UTF-8, {quoted(text)}; export it again")
    if not model.graph.node:
        raise InputError(f"ONNX model {path} holds no nodes; export it again")
    if not model.graph.output:
        raise InputError(f"ONNX model {path} has no outputs; export it again")
    return model
