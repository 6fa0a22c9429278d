"""How the tensors of rewritten parts lie in memory, found without computing any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.fx import GraphModule, Interpreter

from toolkit.engines.gpu.compiled.rewrite import RewrittenPart

NetworkInputs = Sequence[tuple[str, tuple[int, ...], str]]
"""Names, shapes and types of a network's inputs."""
OnCall = Callable[[Any, Sequence[Any]], None]
"""Told of an operator that a part calls, and its arguments."""


@dataclass(frozen=True)
class Layout:
    """How a tensor lies in memory: type, shape, strides, the offset of its first value, and the kind of device."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    kind: str

    @classmethod
    def of(cls, tensor: Tensor) -> Layout:
        return cls(tensor.dtype, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()), tensor.device.type)

    def zeros(self, device: str) -> Tensor:
        """A tensor that lies so, on a device of the kind."""
        size = 1 + self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        values = torch.zeros(max(size, 0), dtype=self.dtype, device="cpu" if self.kind == "cpu" else device)
        return values.as_strided(self.shape, self.stride, self.offset)


class _Walk(Interpreter):
    def __init__(self, module: GraphModule, on_call: OnCall) -> None:
        super().__init__(module)
        self._on_call = on_call

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._on_call(target, args)
        return super().call_function(target, args, kwargs)


def input_layouts(
    parts: Sequence[RewrittenPart],
    inputs: NetworkInputs,
    device: str,
    on_call: OnCall = lambda operator, arguments: None,
) -> dict[str, Layout]:
    """The layouts of all tensors between parts, by name."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        known: dict[str, Tensor] = {
            name: torch.empty(shape, dtype=getattr(torch, dtype), device=device) for name, shape, dtype in inputs
        }
        for part in parts:
            outputs = _Walk(part.module, on_call).run(*(known[name] for name in part.inputs))
            known |= zip(part.outputs, (outputs,) if isinstance(outputs, Tensor) else outputs, strict=True)
        return {name: Layout.of(tensor) for name, tensor in known.items()}
