"""Kernels on the CPU: their source as C++, with what they use of CUDA in `cuda_fp16.h` beside this module.

That is arithmetic, indices, shuffles within warps and atomic additions; not shared memory, nor assembly. Threads take
turns, so that nothing is found of races.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.ops.kernel import Kernel, Launch

FOLDER = Path(__file__).parent
COMPILER = shutil.which("g++")
GUARD = 64
"""Elements before and after an array: 256 bytes of FP32, to which a GPU aligns its memory."""

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="emulating kernels needs g++")


def emulate(
    kernel: Kernel, launch: Launch, inputs: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]]
) -> list[NDArray[Any]]:
    """What `outputs` become by a launch. Reading beyond an input gives NaN; writing beyond an output is an error."""
    arrays = [Guarded(array) for array in (*inputs, *outputs)]
    run_on_cpu(kernel, launch, [array.address for array in arrays], len(outputs))
    assert all(array.is_whole for array in arrays), "the kernel writes beyond an array"
    return [array.content for array in arrays[len(inputs) :]]


def run_on_cpu(kernel: Kernel, launch: Launch, pointers: Sequence[int], outputs: int) -> None:
    """What `run_kernel` does, with addresses of the CPU's memory."""
    given: list[Any] = [ctypes.c_void_p(pointer) for pointer in pointers]
    integers = [ctypes.c_int(number) for number in launch.integers]
    arguments = (*given[:-outputs], *integers, *given[-outputs:])
    addresses = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(each) for each in arguments))
    with tempfile.TemporaryDirectory() as folder:
        library = ctypes.CDLL(str(compiled(kernel, launch, Path(folder))))
    library.launch_on_cpu.restype = ctypes.c_bool
    ended = library.launch_on_cpu(addresses, (ctypes.c_uint * 3)(*launch.grid), ctypes.c_uint(launch.block))
    assert ended, "threads wait for others that never come"


def compiled(kernel: Kernel, launch: Launch, folder: Path) -> Path:
    """A library with the kernel."""
    assert COMPILER is not None
    macros = {**launch.macros, "SOURCE": f'"{kernel.source}"', "ENTRY": kernel.entry}
    library = folder / "kernel.so"
    options = ["-std=c++20", "-O1", "-shared", "-fPIC", "-w", f"-I{FOLDER}"]
    options += [f"-D{name}={value}" for name, value in macros.items()]
    subprocess.run([COMPILER, *options, FOLDER / "launch.cpp", "-o", library], check=True)
    return library


class Guarded:
    """A copy of an array with NaN before and after it."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.memory = np.full(array.size + 2 * GUARD, np.nan, array.dtype)
        self.content = self.memory[GUARD:-GUARD].reshape(array.shape)
        self.content[...] = array

    @property
    def address(self) -> int:
        return int(self.content.ctypes.data)

    @property
    def is_whole(self) -> bool:
        return bool(np.isnan(self.memory[:GUARD]).all() and np.isnan(self.memory[-GUARD:]).all())
