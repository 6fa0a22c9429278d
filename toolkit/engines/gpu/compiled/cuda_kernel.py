"""A kernel that is there as a binary, launched through CUDA's driver."""

from __future__ import annotations

import ctypes
import functools
from ctypes import byref, c_char_p, c_int, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

POINTER = "*"
"""What the types of tensors begin with."""
KINDS: dict[str, Any] = {
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "fp32": ctypes.c_float,
    "fp64": ctypes.c_double,
}
"""Types of numbers, as Triton calls them."""
WARP = 32
ORDINARY_SHARED = 48 * 1024
"""Bytes of shared memory that a kernel may have without asking."""
MOST_SHARED, PREFER_SHARED, EARLY_START = 8, 1, 6
"""CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, CU_FUNC_CACHE_PREFER_SHARED and
CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION."""


class LaunchAttribute(ctypes.Structure):
    """CUlaunchAttribute, whose value is a union of 64 bytes."""

    _fields_ = (("number", c_int), ("value", c_uint64), ("rest", c_uint64 * 7))


class LaunchConfig(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", c_uint * 3),
        ("block", c_uint * 3),
        ("shared", c_uint),
        ("stream", c_void_p),
        ("attributes", ctypes.POINTER(LaunchAttribute)),
        ("attribute_count", c_uint),
    )


@dataclass(frozen=True)
class KernelForm:
    """How a kernel is launched.

    `types` are those of its arguments: `KINDS`, or of a pointer; after them come `scratch` pointers to nothing.
    `early`: it may start while the kernel before it ends.
    """

    symbol: str
    types: tuple[str, ...]
    warps: int
    shared: int
    early: bool
    scratch: int


class CudaKernel:
    """A kernel, loaded for the current device. Raises RuntimeError if it cannot be."""

    def __init__(self, image: bytes, form: KernelForm) -> None:
        torch.cuda.current_stream().query()  # a thread has a context from its first call of CUDA's runtime
        self._form = form
        self._kinds = [c_void_p if kind.startswith(POINTER) else KINDS[kind] for kind in form.types]
        module, self._function = c_void_p(), c_void_p()
        _check(_driver().cuModuleLoadData(byref(module), c_char_p(image)))
        _check(_driver().cuModuleGetFunction(byref(self._function), module, form.symbol.encode()))
        if form.shared > ORDINARY_SHARED:
            _check(_driver().cuFuncSetCacheConfig(self._function, PREFER_SHARED))
            _check(_driver().cuFuncSetAttribute(self._function, MOST_SHARED, form.shared))

    def __call__(self, x: int, y: int, z: int, stream: int, *arguments: Any) -> None:
        """Launch x * y * z programs on a stream of the driver's. Raises RuntimeError if it cannot be launched."""
        if x * y * z == 0:
            return
        given = [kind(_plain(argument)) for kind, argument in zip(self._kinds, arguments, strict=True)]
        given += [c_void_p()] * self._form.scratch
        addresses = (c_void_p * len(given))(*(ctypes.addressof(value) for value in given))
        attribute = LaunchAttribute(EARLY_START, 1)
        config = LaunchConfig(
            (x, y, z),
            (WARP * self._form.warps, 1, 1),
            self._form.shared,
            stream,
            ctypes.pointer(attribute),
            int(self._form.early),
        )
        _check(_driver().cuLaunchKernelEx(byref(config), self._function, addresses, None))


def _plain(argument: Any) -> Any:
    return argument.data_ptr() if isinstance(argument, Tensor) else argument


@functools.cache
def _driver() -> Any:
    return ctypes.CDLL("libcuda.so.1")


def _check(result: int) -> None:
    if result:
        text = c_char_p()
        _driver().cuGetErrorString(result, byref(text))
        raise RuntimeError(f"CUDA error: {(text.value or b'unknown').decode()}")
