"""A CUDA kernel of an op: how it is launched for given shapes, and its launch through CuPy on a caller's stream."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.ops.nvrtc import INSTALL, compile_kernel
from toolkit.storage.claims import unguarded_file
from toolkit.storage.outputs import new_file
from toolkit.storage.private_folder import cache_folder

SCALARS = {"float32": "float", "float16": "__half"}
"""CUDA type of each supported dtype."""

SCALAR_BYTES = {"float32": 4, "float16": 2}

Shapes = Sequence[Sequence[int]]

LEFT_OUT = (0,)
"""The shape of an optional tensor that a call leaves out."""


@dataclass(frozen=True)
class Launch:
    """One launch: compile-time `macros`, run-time `integers` (after the inputs, before the outputs), and its shape."""

    macros: Mapping[str, str | int]
    integers: tuple[int, ...]
    grid: tuple[int, int, int]
    block: int


@dataclass(frozen=True)
class Kernel:
    """A source file with one ``extern "C"`` entry point; its arguments are inputs, integers, outputs.

    `plan` gives the launch for the shapes and strides (in elements) of the inputs, the dtype of the tensors that share
    a floating-point type, and the op's attributes. An optional tensor that is left out has the shape (0,), which
    `is_given` knows, and an address that must not be read.
    """

    source: Path
    entry: str
    plan: Callable[[Shapes, Shapes, str, Mapping[str, Any]], Launch]


def ceil_div(size: int, part: int) -> int:
    """How many parts hold `size`; in terms that sizes which TensorRT leaves open have too."""
    return (size + part - 1) // part


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a row-major tensor, in elements."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def is_given(shape: Sequence[int]) -> bool:
    """Whether an optional tensor is there: one that is left out has no elements."""
    return 0 not in shape


def run_kernel(
    kernel: Kernel, launch: Launch, pointers: Sequence[int], device: int, stream: int, outputs: int = 1
) -> None:
    """Enqueue a kernel on a CUDA stream, without waiting. `pointers` are device addresses: inputs, then the outputs.

    Raises InputError if CuPy or NVRTC is absent.
    """
    import numpy as np

    if 0 in launch.grid:
        return
    function = load_function(kernel, device, tuple(sorted(launch.macros.items())))
    arguments: list[Any] = [np.uint64(p) for p in pointers[:-outputs]]
    arguments += [np.int32(i) for i in launch.integers]
    arguments += [np.uint64(p) for p in pointers[-outputs:]]
    function(launch.grid, (launch.block, 1, 1), arguments, stream=cupy_stream(stream))


@dataclass(frozen=True)
class StreamHandle:
    """A CUDA stream of another library, by its address."""

    address: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.address


@functools.cache
def cupy_stream(stream: int) -> Any:
    return load_cupy().cuda.Stream.from_external(StreamHandle(stream))


@functools.cache
def load_function(kernel: Kernel, device: int, macros: tuple[tuple[str, str | int], ...]) -> Any:
    """The loaded function of a kernel for a device, compiled once per architecture, source and macros."""
    cupy = load_cupy()
    major, minor = divmod(int(cupy.cuda.Device(device).compute_capability), 10)
    code = cached_code(kernel.source, f"sm_{major}{minor}", dict(macros))
    with cupy.cuda.Device(device):
        module = cupy.cuda.function.Module()
        module.load(code)
        return module.get_function(kernel.entry)


def cached_code(source: Path, architecture: str, macros: Mapping[str, str | int]) -> bytes:
    """Machine code from the user's cache, compiled into it when absent."""
    path = kernels_folder() / code_name(source, architecture, macros)
    if path.is_file():
        return path.read_bytes()
    code = compile_kernel(source, architecture, macros)
    with new_file(unguarded_file(path, shared=True)) as file:
        file.write_bytes(code)
    return code


def code_name(source: Path, architecture: str, macros: Mapping[str, str | int]) -> str:
    """File name of a kernel's machine code: another source, architecture or macro gives another name."""
    key = json.dumps([architecture, sorted(macros.items())]).encode()
    digest = hashlib.sha256(source.read_bytes() + key).hexdigest()
    return f"{source.parent.name}-{architecture}-{digest[:24]}.cubin"


def kernels_folder() -> Path:
    return cache_folder() / "kernels"


def load_cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise InputError(f"running kernels needs CuPy; {INSTALL}") from error
    return cupy
