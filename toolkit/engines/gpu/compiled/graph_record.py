"""A rewritten graph as plain values that JSON can hold, and back. Reading one runs nothing, and needs no exporter."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

GETITEM = "getitem"
"""The one function in graphs that is no operator of torch's: an element of what an operator gives."""
NAMED = {torch.dtype: "dtype", torch.memory_format: "memory_format", torch.layout: "layout"}
"""Values of torch that are attributes of the module `torch`, by what they are called here."""
PLAIN = (bool, int, float, str, type(None))


def graph_record(gm: GraphModule) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """The nodes of a graph in order, and its constants by their names.

    Raises ValueError for what cannot be written: calls of other functions than torch's operators, and arguments that
    are neither nodes, numbers, texts, nor types, layouts and devices of torch's.
    """
    nodes, constants = [], dict[str, Tensor]()
    for node in gm.graph.nodes:
        target = _target_name(node)
        if node.op == "get_attr":
            constants[target] = _constant(gm, target)
        kwargs = {name: _plain(value) for name, value in node.kwargs.items()}
        values = {"op": node.op, "name": node.name, "target": target, "args": _plain(list(node.args)), "kwargs": kwargs}
        nodes.append(values)
    return nodes, constants


def graph_module(nodes: Sequence[Mapping[str, Any]], constants: Mapping[str, Tensor]) -> GraphModule:
    """The graph of a record. Raises KeyError, TypeError, ValueError, AttributeError or RuntimeError for what is none,
    and for an operator that this process has not.
    """
    graph, known = Graph(), dict[str, Node]()
    for values in nodes:
        target = _target(values["op"], values["target"])
        kwargs = {name: _value(value, known) for name, value in values["kwargs"].items()}
        name = values["name"]
        known[name] = graph.create_node(values["op"], target, tuple(_value(values["args"], known)), kwargs, name=name)
    graph.lint()
    return GraphModule(dict(constants), graph)


def _constant(gm: GraphModule, target: str) -> Tensor:
    found = operator.attrgetter(target)(gm)
    if isinstance(found, GraphModule):
        raise ValueError("a block under torch.autocast has a graph of its own; cast by `Tensor.to` in its place")
    if not isinstance(found, Tensor):
        raise ValueError(f"{target} is a {type(found).__name__}")
    return found.detach()


def _target_name(node: Node) -> str:
    if node.op != "call_function":
        if node.op not in ("placeholder", "get_attr", "output"):
            raise ValueError(f"{node.name} is a {node.op}")
        return str(node.target)
    if node.target is operator.getitem:
        return GETITEM
    if not isinstance(node.target, torch._ops.OpOverload):
        raise ValueError(f"{node.name} calls {node.target}")
    name: str = node.target.name()
    return name if "." in name else f"{name}.default"


def _target(op: str, name: str) -> Any:
    """What a node of this kind refers to: an operator by ``namespace::name.overload``, or the name itself."""
    if op != "call_function":
        return name
    if name == GETITEM:
        return operator.getitem
    namespace, _, rest = name.partition("::")
    return operator.attrgetter(rest)(getattr(torch.ops, namespace))


def _plain(value: object) -> Any:
    """A node's argument, as JSON has it: what JSON does not know is a dictionary of one entry, which names its kind."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Node):
        return {"node": value.name}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_plain(item) for item in value]}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    for kind, name in NAMED.items():
        if isinstance(value, kind):
            return {name: str(value).removeprefix("torch.")}
    raise ValueError(f"an argument is a {type(value).__name__}")


def _value(plain: Any, known: Mapping[str, Node]) -> Any:
    if isinstance(plain, list):
        return [_value(item, known) for item in plain]
    if not isinstance(plain, dict):
        return plain
    ((kind, given),) = plain.items()
    if kind == "node":
        return known[given]
    if kind == "tuple":
        return tuple(_value(item, known) for item in given)
    if kind == "device":
        return torch.device(given)
    classes = {name: found for found, name in NAMED.items()}
    value = getattr(torch, given)
    if not isinstance(value, classes[kind]):
        raise TypeError(f"{given} is no {kind}")
    return value
