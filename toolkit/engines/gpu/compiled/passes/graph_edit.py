"""What every pass needs: finding calls, reading and adding constants, and closing an edit."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.fx import GraphModule, Interpreter, Node

Aten = torch.ops.aten
OPERATORS = "uniad_gpu"
"""Namespace of `toolkit.engines.gpu.compiled.operators`."""


def calls(gm: GraphModule, *targets: Any) -> list[Node]:
    """The nodes that call one of `targets`, in execution order."""
    return [node for node in gm.graph.nodes if node.op == "call_function" and node.target in targets]


def is_call(value: object, *targets: Any) -> bool:
    """Whether `value` is a node that calls one of `targets`."""
    return isinstance(value, Node) and value.op == "call_function" and value.target in targets


def shape_of(node: Node) -> tuple[int, ...]:
    """Shape of the tensor that `node` yields, from its fake value."""
    return tuple(node.meta["val"].shape)


def constant_of(gm: GraphModule, value: object) -> Tensor | None:
    """The parameter or buffer that a get_attr node names; None for any other value."""
    if not isinstance(value, Node) or value.op != "get_attr":
        return None
    found = operator.attrgetter(str(value.target))(gm)
    return found.detach() if isinstance(found, Tensor) else None


def linear_parameters(gm: GraphModule, node: Node) -> tuple[Tensor, Tensor] | None:
    """Weight [outputs, inputs] and bias [outputs] of a linear layer; None for others, and where one is no constant."""
    if not is_call(node, Aten.linear.default):
        return None
    weight = constant_of(gm, node.args[1])
    given = node.args[2] if len(node.args) > 2 else None
    bias = constant_of(gm, given)
    if weight is None or (given is not None and bias is None):
        return None
    return weight, weight.new_zeros(weight.shape[0]) if bias is None else bias


def convolution_arguments(node: Node) -> list[Any]:
    """Input, weight, bias, stride, padding, dilation and groups of an aten.conv2d, those left out as well."""
    defaults = (None, None, None, (1, 1), (0, 0), (1, 1), 1)
    return [*node.args, *defaults[len(node.args) :]]


def add_constant(gm: GraphModule, tensor: Tensor) -> Node:
    """Register `tensor` as a buffer, and read it at the graph's insertion point."""
    number = len(gm._buffers)
    while hasattr(gm, f"constant_{number}"):
        number += 1
    gm.register_buffer(f"constant_{number}", tensor.detach(), persistent=False)
    return gm.graph.get_attr(f"constant_{number}")


def replace(node: Node, new: Node) -> None:
    """Let `new` serve the users of `node`, and erase `node`."""
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)


def finish(gm: GraphModule, rewrites: int) -> int:
    """Close an edit of `rewrites` rewrites, which are returned: drop dead nodes, and refresh fake values.

    The code is that of before until the module's `recompile`, which takes as long as the pass: all passes share one.
    """
    if rewrites:
        gm.graph.eliminate_dead_code()
        gm.graph.lint()
        _refresh_values(gm)
    return rewrites


def _refresh_values(gm: GraphModule) -> None:
    inputs = [node.meta["val"] for node in gm.graph.nodes if node.op == "placeholder"]
    modes = (value.fake_mode for value in inputs if isinstance(value, FakeTensor))
    mode = next(modes, None) or FakeTensorMode()  # a graph without inputs is all constants
    with mode, torch.no_grad():
        _Values(gm, mode).run(*inputs)


class _Values(Interpreter):
    """Notes the fake value of each node that is new, or reads one whose layout has changed."""

    def __init__(self, gm: GraphModule, mode: FakeTensorMode) -> None:
        super().__init__(gm, garbage_collect_values=False)
        self.mode = mode
        self.changed: set[Node] = set()

    def run_node(self, n: Node) -> Any:
        known = n.meta.get("val")
        # An operator of ours has the shape of what it replaced, but maybe not the layout.
        settled = known is not None and getattr(n.target, "namespace", "") != OPERATORS
        if settled and not self.changed.intersection(n.all_input_nodes):
            return known
        value = super().run_node(n)
        if n.op == "output":
            return value
        if known is None or _layout(known) != _layout(value):
            self.changed.add(n)
        n.meta["val"] = value
        return value

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_attr(target, args, kwargs)
        return self.mode.from_tensor(value, static_shapes=True) if isinstance(value, Tensor) else value


def _layout(value: object) -> object:
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    return [_layout(part) for part in value] if isinstance(value, list | tuple) else value
