"""A function of tensors as one CUDA graph: a call is a single launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

WARM_UP_RUNS = 3
"""Enough for libraries to load their kernels and choose their algorithms before the capture."""


class FrameGraph:
    """A function of named tensors of fixed shapes, captured once and replayed from its own input buffers.

    Every call overwrites the outputs of the one before; they may be inputs of the next, which is how state is fed back.
    What it uses is its own, cuBLAS's workspaces included, so that it can run beside another if `function` allows it.
    """

    def __init__(
        self, function: Callable[[Mapping[str, Tensor]], dict[str, Tensor]], example: Mapping[str, Tensor]
    ) -> None:
        self._inputs = {name: tensor.clone() for name, tensor in example.items()}
        dtypes = {tensor.dtype for tensor in example.values()}
        self._names_by_dtype = [[name for name, t in example.items() if t.dtype is dtype] for dtype in dtypes]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                function(self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # torch keeps a workspace for each stream: those of the warm-up would be every graph's, and those of this
        # capture, which lie in its memory, anybody's.
        torch._C._cuda_clearCublasWorkspaces()
        with torch.cuda.graph(self._graph):
            self._outputs = apart(function(self._inputs), self._inputs)
        torch._C._cuda_clearCublasWorkspaces()

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs for these inputs, in buffers that the next call overwrites."""
        for names in self._names_by_dtype:  # tensors of one type are copied by one kernel
            torch._foreach_copy_([self._inputs[name] for name in names], [inputs[name] for name in names])
        self._graph.replay()
        return self._outputs


def apart(outputs: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The outputs, those in memory of inputs as copies: fed back, they would be overwritten while they are read.

    An output lies there where a function gives an input, or a view of it, as it is.
    """
    memory = {tensor.untyped_storage().data_ptr() for tensor in inputs.values()}
    return {name: x.clone() if x.untyped_storage().data_ptr() in memory else x for name, x in outputs.items()}
