"""An op's kernel as the CUDA implementation of its torch operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import InputError
from toolkit.ops.kernel import LEFT_OUT, SCALARS, Kernel, Shapes, dense_strides, run_kernel
from toolkit.ops.spec import CustomOp

ALIGNMENT = 16
"""Bytes; what a kernel may load at once from the start of an input."""


def launch_op(op: CustomOp, *arguments: Any, **named: Any) -> Any:
    """What the op's kernel computes for these arguments of its torch operator, on the current stream.

    Inputs are made contiguous. Raises InputError unless all are on one device and of the types that the op states.
    """
    assert op.kernel is not None
    tensors, attributes = op.signature.bind(arguments, named)
    dtype = shared_dtype(op, tensors)
    inputs = [None if x is None else aligned(x.contiguous()) for x in tensors]
    device = next(x.device for x in inputs if x is not None)
    shapes, strides = shapes_and_strides(inputs)
    outputs = tuple(
        torch.empty(tuple(shape), dtype=getattr(torch, port.dtype or dtype), device=device)
        for port, shape in zip(op.signature.outputs, op.output_shapes(shapes, attributes), strict=True)
    )
    launch = op.kernel.plan(shapes, strides, dtype, attributes)
    pointers = [0 if x is None else x.data_ptr() for x in (*inputs, *outputs)]
    stream = torch.cuda.current_stream(device).cuda_stream
    run_kernel(op.kernel, launch, pointers, device.index, stream, len(outputs))
    return outputs[0] if len(outputs) == 1 else outputs


def launch_backward(
    op: CustomOp, inputs: Sequence[Tensor | None], attributes: Mapping[str, Any], gradients: Sequence[Tensor]
) -> list[Tensor | None]:
    """The gradients of the op's inputs, from those of all its outputs, by its backward kernel on the current stream.

    None for inputs that have none. Raises InputError unless all are on one device and of the types that the op states.
    """
    assert op.backward is not None
    dtype = shared_dtype(op, inputs)
    ports = op.signature.inputs
    incoming = [x for port, x in zip(op.signature.outputs, gradients, strict=True) if port.has_gradient]
    read = [None if x is None else aligned(x.contiguous()) for x in (*inputs, *incoming)]
    device = gradients[0].device
    found = [
        None if x is None or not port.has_gradient else torch.zeros(x.shape, dtype=torch.float32, device=device)
        for port, x in zip(ports, inputs, strict=True)
    ]
    launch = op.backward.plan(*shapes_and_strides(read), dtype, attributes)
    written = [x for port, x in zip(ports, found, strict=True) if port.has_gradient]
    pointers = [0 if x is None else x.data_ptr() for x in (*read, *written)]
    stream = torch.cuda.current_stream(device).cuda_stream
    run_kernel(op.backward, launch, pointers, device.index, stream, len(written))
    return [None if x is None or y is None else x.to(y.dtype) for x, y in zip(found, inputs, strict=True)]


def shapes_and_strides(tensors: Sequence[Tensor | None]) -> tuple[Shapes, Shapes]:
    """Of contiguous tensors, for a plan."""
    shapes = [LEFT_OUT if x is None else tuple(x.shape) for x in tensors]
    return shapes, [dense_strides(shape) for shape in shapes]


def launch_on(kernel: Kernel, inputs: tuple[Tensor, ...], output: Tensor, **attributes: Any) -> Tensor:
    """Fill `output` by the kernel on the current stream. An input that starts at an odd address is copied.

    For a kernel that reads its inputs by their strides; `launch_op` serves the others. Raises InputError unless all
    tensors are on one device and of one dtype that the kernel has code for.
    """
    dtype = dtype_name(output)
    if dtype not in SCALARS:
        raise InputError(f"kernel {kernel.entry!r} has no {dtype} code; use one of {', '.join(SCALARS)}")
    if any((x.dtype, x.device) != (output.dtype, output.device) for x in inputs):
        given = ", ".join(f"{dtype_name(x)} on {x.device}" for x in inputs)
        raise InputError(f"kernel {kernel.entry!r} takes inputs of one dtype and device, not {given}")
    inputs = tuple(aligned(x) for x in inputs)
    launch = kernel.plan([x.shape for x in inputs], [x.stride() for x in inputs], dtype, attributes)
    pointers = [x.data_ptr() for x in (*inputs, output)]
    device = output.device.index
    run_kernel(kernel, launch, pointers, device, torch.cuda.current_stream(device).cuda_stream)
    return output


def shared_dtype(op: CustomOp, tensors: Sequence[Tensor | None]) -> str:
    """The floating-point type that a call's tensors share; float32 if none does.

    Raises InputError for tensors on several devices, of other types than the op states, or of one without code.
    """
    given = [(port, x) for port, x in zip(op.signature.inputs, tensors, strict=True) if x is not None]
    shared = next((dtype_name(x) for port, x in given if port.dtype is None), "float32")
    if shared not in SCALARS:
        raise InputError(f"the kernel of op {op.name!r} has no {shared} code; use one of {', '.join(SCALARS)}")
    for port, x in given:
        if dtype_name(x) != (port.dtype or shared):
            raise InputError(f"op {op.name!r} takes {port.name!r} as {port.dtype or shared}, not as {dtype_name(x)}")
    if len({x.device for _, x in given}) > 1:
        raise InputError(f"op {op.name!r} takes all of its inputs on one device; move them")
    return shared


def dtype_name(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def aligned(x: Tensor) -> Tensor:
    """The tensor, copied if it starts at an odd address."""
    return x if x.data_ptr() % ALIGNMENT == 0 else x.clone()
