"""An op's kernel as the CUDA implementation of its torch operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from toolkit.errors import InputError
from toolkit.ops.kernel import SCALARS, Kernel, run_kernel

ALIGNMENT = 16
"""Bytes; what a kernel may load at once from the start of an input."""


def launch_on(kernel: Kernel, inputs: tuple[Tensor, ...], output: Tensor, **attributes: Any) -> Tensor:
    """Fill `output` by the kernel on the current stream. An input that starts at an odd address is copied.

    Raises InputError unless all tensors are on one device and of one dtype that the kernel has code for.
    """
    dtype = str(output.dtype).removeprefix("torch.")
    if dtype not in SCALARS:
        raise InputError(f"kernel {kernel.entry!r} has no {dtype} code; use one of {', '.join(SCALARS)}")
    if any((x.dtype, x.device) != (output.dtype, output.device) for x in inputs):
        given = ", ".join(f"{str(x.dtype).removeprefix('torch.')} on {x.device}" for x in inputs)
        raise InputError(f"kernel {kernel.entry!r} takes inputs of one dtype and device, not {given}")
    inputs = tuple(x if x.data_ptr() % ALIGNMENT == 0 else x.clone() for x in inputs)
    launch = kernel.plan([x.shape for x in inputs], [x.stride() for x in inputs], dtype, attributes)
    pointers = [x.data_ptr() for x in (*inputs, output)]
    device = output.device.index
    run_kernel(kernel, launch, pointers, device, torch.cuda.current_stream(device).cuda_stream)
    return output
