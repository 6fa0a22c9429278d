"""An op's kernel as the CUDA implementation of its torch operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from toolkit.errors import InputError
from toolkit.ops.kernel import SCALARS, Kernel, run_kernel


def launch_on(kernel: Kernel, inputs: tuple[Tensor, ...], output: Tensor, **attributes: Any) -> Tensor:
    """Fill `output` by the kernel on the current stream; all tensors share one device and one supported dtype.

    Raises InputError for a dtype that the kernel has no code for.
    """
    dtype = str(output.dtype).removeprefix("torch.")
    if dtype not in SCALARS:
        raise InputError(f"kernel {kernel.entry!r} has no {dtype} code; use one of {', '.join(SCALARS)}")
    launch = kernel.plan([x.shape for x in inputs], [x.stride() for x in inputs], dtype, attributes)
    pointers = [x.data_ptr() for x in (*inputs, output)]
    device = output.device.index
    run_kernel(kernel, launch, pointers, device, torch.cuda.current_stream(device).cuda_stream)
    return output
