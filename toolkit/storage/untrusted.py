"""Reading pickles of numpy data that come from elsewhere, and may be damaged or hostile.

A pickle is a program: it names Python objects and calls them. Here the names that pickled numpy data needs
are bound to inert stand-ins, and every other name is refused. Not even numpy's own unpickling sees the file's
state, which it does not check: only a buffer, a plain number type and a shape.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from toolkit.text import quoted
from toolkit.weights.pickle_program import names_in_pickle

MAX_STEPS = 2**27
"""Info files of all of nuScenes have a quarter."""


class DType:
    """Stands in for `numpy.dtype`: booleans, integers, floats and texts of fixed length only."""

    def __init__(self, code: str, *_: object) -> None:
        if not re.fullmatch("b1|[iu][1248]|f[248]|U[0-9]{1,4}", code):
            raise pickle.UnpicklingError(f"arrays of type {quoted(code)} are not supported")
        self.value: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # The state of a plain type says nothing new but its byte order; "|" is that of single bytes.
        self.value = self.value.newbyteorder(state[1])


class Array:
    """Stands in for `numpy.ndarray`; `value` is the array."""

    def __init__(self) -> None:
        self.value: np.ndarray = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran_order, data = state
        self.value = np.frombuffer(data, dtype.value).reshape(shape, order="F" if fortran_order else "C")


def new_array(*_: object) -> Array:
    """Stands in for `numpy.core.multiarray._reconstruct`."""
    return Array()


def array_from_buffer(data: bytes, dtype: DType, shape: tuple[int, ...], order: str, *_: object) -> Array:
    """Stands in for `numpy.core.numeric._frombuffer`."""
    array = Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def scalar(dtype: DType, data: bytes) -> float | int | bool:
    """Stands in for `numpy.core.multiarray.scalar`."""
    number: float | int | bool = np.frombuffer(data, dtype.value, count=1)[0].item()
    return number


def encode_latin1(text: str, encoding: str) -> bytes:
    """Stands in for `_codecs.encode`, with which older pickles write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {quoted(encoding)} is not supported")
    return text.encode("latin1")


NUMPY_GLOBALS: dict[str, Callable[..., Any]] = {
    "_codecs.encode": encode_latin1,
    "numpy.dtype": DType,
    "numpy.ndarray": Array,
    "numpy.core.multiarray._reconstruct": new_array,
    "numpy.core.multiarray.scalar": scalar,
    "numpy.core.numeric._frombuffer": array_from_buffer,
    "numpy._core.multiarray._reconstruct": new_array,
    "numpy._core.multiarray.scalar": scalar,
    "numpy._core.numeric._frombuffer": array_from_buffer,
}
"""Every global that pickled numpy arrays and numbers name, in numpy 1 and 2."""


class NumpyUnpickler(pickle.Unpickler):
    """Knows `NUMPY_GLOBALS` and nothing else; arrays come out as `Array`."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global; UnpicklingError for any other."""
        full = f"{module}.{name}"
        if full not in NUMPY_GLOBALS:
            raise pickle.UnpicklingError(f"it names {quoted(full)}, and reading it would run that; no data needs it")
        return NUMPY_GLOBALS[full]


def load_numpy_pickle(data: bytes) -> Any:
    """Containers, strings, numbers and `Array`s of a pickle. Whatever is wrong with it raises some Exception."""
    names_in_pickle(io.BytesIO(data), length=len(data), max_steps=MAX_STEPS)
    return NumpyUnpickler(io.BytesIO(data)).load()
