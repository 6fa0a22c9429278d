"""Gradients of custom ops, from the same computation in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._library.custom_ops import CustomOpDef


def recompute_gradient(op: CustomOpDef, plain: Callable[..., Tensor]) -> None:
    """Give an op the gradients of `plain`, which takes the op's arguments and computes the same by torch's operators.

    Only the inputs are kept for the backward pass; what lies between is computed again there, as torch's own
    checkpointing does. This holds on every device, whatever computes the op itself. In mixed precision the op is
    computed in FP32, as torch does with other sampling.
    """

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*(each for each in inputs if isinstance(each, Tensor)))
        ctx.others = [None if isinstance(each, Tensor) else each for each in inputs]

    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        inputs = [
            next(saved).detach().requires_grad_(needed) if other is None else other
            for needed, other in zip(ctx.needs_input_grad, ctx.others, strict=True)
        ]
        wanted = [each for each, needed in zip(inputs, ctx.needs_input_grad, strict=True) if needed]
        with torch.enable_grad():
            gradients = iter(torch.autograd.grad(plain(*inputs), wanted, gradient))
        return tuple(next(gradients) if needed else None for needed in ctx.needs_input_grad)

    op.register_autograd(backward, setup_context=setup_context)
    for device in ("cpu", "cuda"):
        op.register_autocast(device, torch.float32)
