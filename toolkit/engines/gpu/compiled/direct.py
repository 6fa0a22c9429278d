"""A compiled part without its compiler: the function that Inductor wrote, and the kernels it calls as binaries.

To read one of Inductor's files takes all of it and Dynamo, seconds of imports. What it then runs is one function of
allocations, launches and calls of torch, which is executed here by itself. A file is a zip archive, of which each
member has a checksum; it is code, and valid for the versions and the GPU that it was written by alone.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from toolkit.engines.gpu.compiled.cuda_kernel import CudaKernel, KernelForm

SUFFIX = ".zip"
FUNCTION, KERNELS = "function.py", "kernels.json"
"""Members: the source of `CALL` and what it needs, and of each kernel its launcher's source and form by name. Beside
them lies a binary for each."""
CALL = "call"
"""The function from a list of tensors, which it empties, to a tuple of them."""
LAUNCHER, RUNNER = "launcher", "runner"
"""The function of a kernel's source, which finds its grid, and what it calls: a `CudaKernel`."""
EXTERN = "extern_kernels"
"""Where Inductor's modules find functions of torch by their names, beside some of its own."""
ALIGNED = 16
"""Bytes; Inductor reads inputs whose addresses are multiples of it in larger pieces."""

DirectPart = Callable[..., tuple[Tensor, ...]]
Recorded = tuple[str, KernelForm, bytes]
"""A kernel: the source of its launcher, its form, and its binary."""


def known_names() -> dict[str, Any]:
    """What Inductor's modules import for their function, as far as torch has it without Inductor."""
    return {
        "torch": torch,
        "math": math,
        "inf": math.inf,
        "nan": math.nan,
        "device": torch.device,
        "empty_strided": torch.empty_strided,
        "get_raw_stream": getattr(torch._C, "_cuda_getCurrentRawStream", None),  # which a torch for CPUs has not
        EXTERN: torch,
    }


def write_direct(path: Path, function: str, kernels: Mapping[str, Recorded]) -> None:
    """Write the source of `CALL` and the kernels that it names. Raises OSError if the file cannot be written."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(FUNCTION, function)
        file.writestr(KERNELS, json.dumps({name: [code, asdict(form)] for name, (code, form, _) in kernels.items()}))
        for name, (_, _, image) in kernels.items():
            file.writestr(name, image)


def read_direct(path: Path) -> DirectPart:
    """The part of a file, which must be one that this user wrote: it is executed.

    Raises whatever a file that is missing, damaged or of something else makes Python or CUDA raise.
    """
    names = known_names()
    with zipfile.ZipFile(path) as file:
        function = file.read(FUNCTION)
        for name, (launcher, form) in json.loads(file.read(KERNELS)).items():
            kernel = CudaKernel(file.read(name), KernelForm(**form | {"types": tuple(form["types"])}))
            names[name] = SimpleNamespace(run=_executed(launcher, {RUNNER: kernel}, path)[LAUNCHER])
    call = _executed(function, names, path)[CALL]

    def part(*arguments: Tensor) -> tuple[Tensor, ...]:
        outputs: Sequence[Tensor] = call([_aligned(argument) for argument in arguments])
        return tuple(outputs)

    return part


def _executed(source: str | bytes, names: dict[str, Any], path: Path) -> dict[str, Any]:
    exec(compile(source, str(path), "exec"), names)
    return names


def _aligned(x: Tensor) -> Tensor:
    """The tensor, or a copy that lies alike, as Inductor makes it of an input, where its address is no multiple."""
    if not x.is_cuda or x.data_ptr() % ALIGNED == 0:
        return x
    length = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return x.as_strided((length,), (1,)).clone().as_strided(x.shape, x.stride(), 0)
