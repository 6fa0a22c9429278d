"""How a network calls the toolkit's own kernels, so that Triton compiles them before the network does.

A kernel is compiled anew for other types, other constants, and where a number or an address is a multiple of 16. Triton
keeps what it compiles in a folder that all processes share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toolkit.engines.gpu.compiled.layouts import Layout, NetworkInputs, input_layouts
from toolkit.engines.gpu.compiled.operators import OF_TRITON
from toolkit.engines.gpu.compiled.rewrite import RewrittenPart


@dataclass(frozen=True)
class OperatorCall:
    """An operator of the toolkit's, by name, with its arguments, of which tensors are layouts."""

    operator: str
    arguments: tuple[Any, ...]

    def repeat(self, device: str) -> None:
        """Call it with zeros: what it launches is compiled and kept if it was not yet.

        Triton's `preload` would not have to launch, but takes a constant that is a text such as "fp32" for a type.
        """
        operator = getattr(torch.ops.uniad_gpu, self.operator)
        operator(*(x.zeros(device) if isinstance(x, Layout) else x for x in self.arguments))


def layouts_and_calls(
    parts: Sequence[RewrittenPart], inputs: NetworkInputs, device: str
) -> tuple[dict[str, Layout], list[OperatorCall]]:
    """The layouts of all tensors between parts, by name, and the different calls of operators that are kernels of
    Triton's, in order; nothing is computed.
    """
    found: dict[OperatorCall, None] = {}

    def note(operator: Any, arguments: Sequence[Any]) -> None:
        if operator in OF_TRITON:
            laid_out = (Layout.of(x) if isinstance(x, Tensor) else x for x in arguments)
            found[OperatorCall(OF_TRITON[operator], tuple(laid_out))] = None

    return input_layouts(parts, inputs, device, note), list(found)


def one_for_each_kernel(calls: Iterable[OperatorCall], device: str) -> list[OperatorCall]:
    """Of these calls, on a GPU, the first for which Triton would compile each kernel; here none is compiled or
    launched.
    """
    from triton import knobs

    kernels, found = set[tuple[str, str]](), list[OperatorCall]()

    def note(*, fn: Any, compile: dict[str, Any], **_: Any) -> bool:
        kernels.add((fn.name, compile["specialization_data"]))
        return True  # so that it is not compiled

    with knobs.runtime.scope(), torch.inference_mode():
        knobs.runtime.jit_cache_hook = note
        for call in calls:
            known = len(kernels)
            call.repeat(device)
            if len(kernels) > known:
                found.append(call)
    return found
