"""Gradients of custom ops: by a kernel on a GPU if the op has one, else from the op's own code in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from toolkit.ops.cuda import launch_backward
from toolkit.ops.spec import CustomOp

Gradients = list[Tensor | None]
ByKernel = Callable[[Sequence[Tensor | None], Mapping[str, Any], Sequence[Tensor]], Gradients]
"""Gradients of an op's inputs from these, its attributes, and the gradients of all its outputs."""
SUFFIX = "_gradient"
"""Of the operator of an op's gradients."""


def register_gradient(op: CustomOp) -> None:
    """Give the op's torch operator gradients.

    Only the inputs are kept for the backward pass. On a CUDA GPU the op's `backward` computes from them, if it has one
    and torch is not asked for deterministic algorithms: kernels may add up in any order. Else the operator's own code,
    which must be plain torch then, is computed again, as torch's own checkpointing does. In mixed precision the op is
    computed in FP32, as torch does with other sampling.
    """
    kernel = None if op.backward is None else _as_operator(op)

    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: Any, keyword_only_inputs: Mapping[str, Any] | None = None
    ) -> None:
        tensors, ctx.attributes = op.signature.bind(inputs, keyword_only_inputs or {})
        ctx.save_for_backward(*tensors)

    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        inputs = list(ctx.saved_tensors)
        needed = _needed(op, ctx.needs_input_grad)
        if kernel is not None and takes_kernel(gradients[0]):
            found = kernel(inputs, ctx.attributes, gradients)
        else:
            found = recomputed_gradients(op, inputs, ctx.attributes, gradients, needed)
        grouped = iter(op.signature.grouped([x if need else None for x, need in zip(found, needed, strict=True)]))
        given = op.signature.arguments[: len(ctx.needs_input_grad)]
        return tuple(next(grouped) if each.ports else None for each in given)

    op.torch_op.register_autograd(backward, setup_context=setup_context)
    for device in ("cpu", "cuda"):
        op.torch_op.register_autocast(device, torch.float32)


def takes_kernel(gradient: Tensor) -> bool:
    """Whether kernels compute gradients from this one."""
    return gradient.is_cuda and not torch.are_deterministic_algorithms_enabled()


def _as_operator(op: CustomOp) -> ByKernel:
    """`launch_backward` of an op as a torch operator of its own, so that compilers leave it as it is."""
    kinds = {"List[int]": "int[]", "List[float]": "float[]"}
    stated = "".join(f", {kinds.get(kind, kind)} {name}" for name, kind in op.attributes.items())
    name = op.overload._schema.name + SUFFIX

    def given(inputs: Sequence[Tensor | None]) -> list[bool]:
        """Which inputs have a gradient."""
        return [port.has_gradient and x is not None for port, x in zip(op.signature.inputs, inputs, strict=True)]

    def launch(inputs: Sequence[Tensor | None], gradients: Sequence[Tensor], *attributes: Any) -> list[Tensor]:
        named = dict(zip(op.attributes, attributes, strict=True))
        found = launch_backward(op, inputs, named, gradients)
        return [x for x in found if x is not None]

    operator = torch.library.custom_op(
        name, launch, mutates_args=(), schema=f"(Tensor?[] inputs, Tensor[] gradients{stated}) -> Tensor[]"
    )

    @operator.register_fake
    def _(inputs: Sequence[Tensor | None], gradients: Sequence[Tensor], *attributes: Any) -> list[Tensor]:
        return [x.new_empty(x.shape) for x, has in zip(inputs, given(inputs), strict=True) if x is not None and has]

    def by_kernel(
        inputs: Sequence[Tensor | None], attributes: Mapping[str, Any], gradients: Sequence[Tensor]
    ) -> Gradients:
        found = iter(operator(inputs, gradients, *(attributes[name] for name in op.attributes)))
        return [next(found) if has else None for has in given(inputs)]

    return by_kernel


def recomputed_gradients(
    op: CustomOp,
    inputs: Sequence[Tensor | None],
    attributes: Mapping[str, Any],
    gradients: Sequence[Tensor],
    needed: Sequence[bool],
) -> Gradients:
    """Of the needed inputs, from those of all outputs, by the code of the op's torch operator."""
    leaves = [None if x is None else x.detach().requires_grad_(need) for x, need in zip(inputs, needed, strict=True)]
    positional, named = op.signature.call(leaves, attributes)
    with torch.enable_grad():
        returned = op.torch_op._init_fn(*positional, **named)
    outputs = returned if isinstance(returned, tuple) else (returned,)
    pairs = [(x, gradient) for x, gradient in zip(outputs, gradients, strict=True) if x.requires_grad]
    if not pairs:
        return [None] * len(inputs)
    wanted = [x for x in leaves if x is not None and x.requires_grad]
    computed, incoming = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(computed, wanted, incoming, allow_unused=True))
    return [next(found) if need else None for need in needed]


def _needed(op: CustomOp, said: Sequence[Any]) -> list[bool]:
    """Whether each input needs a gradient, from what torch says of the arguments up to the last that is given."""
    arguments = op.signature.arguments
    needed: list[bool] = []
    for argument, each in zip(arguments, [*said, *[False] * (len(arguments) - len(said))], strict=True):
        if argument.ports:
            needed += each if isinstance(each, list | tuple) else [each]
    return needed
