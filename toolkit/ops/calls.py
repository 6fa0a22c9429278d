"""How a network calls its custom ops: the shapes, strides and attributes of every call, found without computing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.network import Network, example_inputs
from toolkit.ops.kernel import LEFT_OUT, Launch, Shapes, dense_strides
from toolkit.ops.spec import CustomOp
from toolkit.wiring import NetworkGraph


@dataclass(frozen=True)
class Call:
    """One call of an op: shape and strides (in elements) of each input, and the attributes by name."""

    op: CustomOp
    shapes: Shapes
    strides: Shapes
    attributes: Mapping[str, Any]

    @classmethod
    def of(cls, op: CustomOp, arguments: Sequence[Any], named: Mapping[str, Any]) -> Call:
        """The call of `op` with these positional and named arguments; those left out have the schema's defaults."""
        tensors, values = op.signature.bind(arguments, named)
        return cls(
            op,
            [LEFT_OUT if x is None else tuple(x.shape) for x in tensors],
            [dense_strides(LEFT_OUT) if x is None else x.stride() for x in tensors],
            values,
        )

    @classmethod
    def of_example(cls, op: CustomOp) -> Call | None:
        """The call that the op gives as its example, if it does."""
        return None if op.example is None else cls.of(op, op.example(), {})

    def launch(self, dtype: str) -> Launch:
        """How the op's kernel is launched for this call, with a floating-point type for the tensors that share one."""
        assert self.op.kernel is not None
        return self.op.kernel.plan(self.shapes, self.strides, dtype, self.attributes)


def network_calls(graph: NetworkGraph, ops: Sequence[CustomOp]) -> list[Call]:
    """Every call of `ops` in a frame of the network, in order; tensors have shapes only, so this takes seconds."""
    recorder = CallRecorder(ops)
    with FakeTensorMode():
        network = Network(graph)
        inputs = {s.name: x for s, x in zip(graph.inputs, example_inputs(graph.inputs, graph.config), strict=True)}
        with recorder:
            network(inputs)
    return recorder.calls


class CallRecorder(TorchDispatchMode):
    """Notes the calls of custom ops while it is active."""

    def __init__(self, ops: Sequence[CustomOp]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.ops = {op.overload: op for op in ops}
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Note the call if it is one of ours, and go on with it."""
        if func in self.ops:
            self.calls.append(Call.of(self.ops[func], args, kwargs or {}))
        return func(*args, **(kwargs or {}))
