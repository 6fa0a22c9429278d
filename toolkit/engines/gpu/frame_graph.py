"""A function of tensors as one CUDA graph: a call is a single launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

WARM_UP_RUNS = 3
"""Enough for libraries to load their kernels and choose their algorithms before the capture."""


class FrameGraph:
    """A function of named tensors of fixed shapes, captured once and replayed from its own input buffers.

    Every call overwrites the outputs of the one before; they may be inputs of the next, which is how state is fed back.
    """

    def __init__(
        self, function: Callable[[Mapping[str, Tensor]], dict[str, Tensor]], example: Mapping[str, Tensor]
    ) -> None:
        self._inputs = {name: tensor.clone() for name, tensor in example.items()}
        constants = UploadedOnce()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), constants:
            for _ in range(WARM_UP_RUNS):
                function(self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph), constants:
            self._outputs = function(self._inputs)
        self._constants = constants

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs for these inputs, in buffers that the next call overwrites."""
        torch._foreach_copy_(list(self._inputs.values()), [inputs[name] for name in self._inputs])
        self._graph.replay()
        return self._outputs


class UploadedOnce(TorchFunctionMode):
    """Keeps tensors that modules make of Python numbers: a graph can use one, but not upload it.

    It must live as long as a graph that was captured with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._constants: dict[str, Tensor] = {}

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.Tensor.new_tensor:
            like, values = args[:2]
            key = f"{values} {kwargs} {like.dtype} {like.device}"
        elif function is torch.tensor:
            values = args[0]
            key = f"{values} {kwargs}"
        else:
            return function(*args, **kwargs)
        if not isinstance(values, bool | int | float | list | tuple):
            return function(*args, **kwargs)
        if key not in self._constants:
            self._constants[key] = function(*args, **kwargs)
        return self._constants[key]
