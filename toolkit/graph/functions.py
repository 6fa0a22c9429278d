"""Local functions of a model, replaced by the nodes that they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

import onnx.inliner
from onnx import FunctionProto, ModelProto, NodeProto

from toolkit.errors import InputError
from toolkit.graph.weights import copy_without
from toolkit.onnx_nodes import all_nodes, inner_graphs

FunctionId = tuple[str, str, str]
"""Domain, name and overload."""


def inline_functions(model: ModelProto) -> ModelProto:
    """The model, a copy if it has functions, with the nodes of its local functions in place of their calls.

    A function of another opset than the model's stays one. Raises InputError for functions that call each other in a
    circle.

    `onnx.inliner` forgets the values that a function gives to attributes which a call leaves out. So they are put on
    the calls first, and functions are inlined from the outside in: only then is it known what a call inside a function
    passes on to the next.
    """
    functions = {(function.domain, function.name, function.overload): function for function in model.functions}
    kept: list[FunctionProto] = []
    for outermost in generations(functions):
        model = copy_without(model, "functions")
        model.functions.extend(functions[name] for name in outermost)
        state_defaults(all_nodes(model.graph.node), functions)
        model = onnx.inliner.inline_local_functions(model)
        kept += model.functions
    if functions:
        del model.functions[:]
        model.functions.extend(with_called(kept, functions))
    return model


def generations(functions: Mapping[FunctionId, FunctionProto]) -> Iterator[tuple[FunctionId, ...]]:
    """The functions in groups, each after the groups of those that call it."""
    callers: dict[FunctionId, set[FunctionId]] = {name: set() for name in functions}
    for name, function in functions.items():
        for called in called_functions(function):
            callers.get(called, set()).add(name)
    sorter = TopologicalSorter(callers)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " -> ".join(repr(name) for _, name, _ in reversed(error.args[1][:4]))
        raise InputError(
            f"local functions of the model call each other in a circle, {circle}; export it again"
        ) from error
    while sorter.is_active():
        ready = sorter.get_ready()
        yield ready
        sorter.done(*ready)


def state_defaults(nodes: Iterable[NodeProto], functions: Mapping[FunctionId, FunctionProto]) -> None:
    """Give the calls of functions among `nodes`, in place, the attributes that they leave to the function."""
    for node in nodes:
        function = functions.get(function_id(node))
        if function is not None:
            stated = {attribute.name for attribute in node.attribute}
            node.attribute.extend(default for default in function.attribute_proto if default.name not in stated)


def with_called(chosen: Iterable[FunctionProto], functions: Mapping[FunctionId, FunctionProto]) -> list[FunctionProto]:
    """Some functions, and those that they need."""
    found: dict[FunctionId, FunctionProto] = {}
    waiting = list(chosen)
    while waiting:
        function = waiting.pop()
        found[function.domain, function.name, function.overload] = function
        waiting += [functions[name] for name in called_functions(function) if name in functions and name not in found]
    return list(found.values())


def called_functions(function: FunctionProto) -> Iterator[FunctionId]:
    """What the nodes of a function, and of their inner graphs, would call if they are calls."""
    for node in function.node:
        yield function_id(node)
        for inner in inner_graphs(node):
            yield from map(function_id, all_nodes(inner.node))


def function_id(node: NodeProto) -> FunctionId:
    """The function that a node calls, if it is a call."""
    return node.domain, node.op_type, node.overload
