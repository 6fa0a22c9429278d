"""What tests of the passes that put the toolkit's kernels in place share.

On a CPU the operators compute by torch in FP32, with weights rounded as the precision asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.remove_noops import remove_noops
from toolkit.precision import Precision

KernelPass = Callable[[GraphModule, Precision], int]
OURS = torch.ops.uniad_gpu
TOLERANCE = {Precision.FP32: 2e-6, Precision.TF32: 2e-3, Precision.FP16: 2e-3, Precision.BF16: 2e-2}
"""Of the largest result. FP32 adds the same products in another order; in the others weights keep 11 bits, or 8."""


class Function(nn.Module):
    """A function of tensors as a module with layers of its own."""

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self, *inputs)


def x(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def apply(
    kernel_pass: KernelPass, module: nn.Module, *inputs: Tensor, precision: Precision = Precision.FP32
) -> tuple[int, GraphModule]:
    """The number of replaced calls, and the graph; its result must stay that of `module`."""
    gm = torch.export.export(module.eval(), inputs, strict=False).module()
    assert isinstance(gm, GraphModule)
    remove_noops(gm)
    count = kernel_pass(gm, precision)
    gm.recompile()
    expected, actual = module(*inputs), gm(*inputs)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE[precision] * expected.abs().max().item())
    return count, gm


def argument(node: Node, name: str) -> Any:
    """What an operator's call is given for a parameter."""
    names = [parameter.name for parameter in node.target._schema.arguments]  # type: ignore[union-attr]
    return node.args[names.index(name)]
