"""Inputs that a user gives for the proof, in place of random ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto, ValueInfoProto

from toolkit.errors import InputError
from toolkit.graph.random_inputs import numpy_type
from toolkit.storage.npz import read_npz

MOST_BYTES = 2**30
"""Of all inputs together; UniAD-base takes 160 MB for a frame with a state."""


def read_given_inputs(path: Path, model: ModelProto) -> dict[str, np.ndarray]:
    """An array for each input of a model, from an npz that has them by name.

    Raises InputError for a file that is none or holds more than 1 GiB, and if names, types or shapes are not those of
    the model: all that does not fit is named in one line.
    """
    arrays = read_npz(path, "--check-inputs", MOST_BYTES)
    stored = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    if faults := [*names_amiss(inputs, arrays), *shapes_amiss(inputs, arrays)]:
        raise InputError(
            f"{path} does not fit the model: {'; '.join(faults)}; write each input under its name with numpy.savez"
        )
    return arrays


def names_amiss(inputs: Sequence[ValueInfoProto], arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Arrays that are no input, and inputs that have none."""
    names = [value.name for value in inputs]
    for name in arrays:
        if name not in names:
            yield f"the model has no input {name!r}; it has {', '.join(names)}"
    for name in names:
        if name not in arrays:
            yield f"input {name!r} is missing"


def shapes_amiss(inputs: Sequence[ValueInfoProto], arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Arrays of another type or shape than their input; open dimensions of one name must have one size."""
    sizes: dict[str, int] = {}
    for value in inputs:
        if value.name not in arrays:
            continue
        array = arrays[value.name]
        try:
            dtype = numpy_type(value)
        except ValueError as error:
            yield str(error)
            continue
        shape = open_shape(value)
        if array.dtype != dtype or (shape is not None and not fits(shape, array.shape, sizes)):
            known = [sizes.get(size, size) if isinstance(size, str) else size for size in shape or ()]
            stated = f" of {shape_text(known)}" if shape is not None else ""
            yield f"input {value.name!r} is {dtype}{stated}, found {array.dtype} of {shape_text(array.shape)}"


def open_shape(value: ValueInfoProto) -> list[int | str] | None:
    """An input's sizes; an open one is its name, or "?". None where not even their number is known."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    dimensions = value.type.tensor_type.shape.dim
    return [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in dimensions]


def fits(shape: Sequence[int | str], found: Sequence[int], sizes: dict[str, int]) -> bool:
    """Whether sizes are those stated, by `sizes` where open ones are named there; new ones join it."""
    if len(shape) != len(found):
        return False
    for size, given in zip(shape, found, strict=True):
        if size != "?" and given != (size if isinstance(size, int) else sizes.setdefault(size, given)):
            return False
    return True


def shape_text(sizes: Sequence[int | str]) -> str:
    """Sizes as messages show them."""
    return "x".join(map(str, sizes)) or "no dimensions"
