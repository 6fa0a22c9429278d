"""How many nodes a model has once its local functions are written out: a few lines can stand for billions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from onnx import ModelProto

from toolkit.errors import InputError
from toolkit.graph.functions import FunctionId, called_functions, function_id, generations
from toolkit.onnx_nodes import all_nodes

MOST_NODES, MOST_GROWTH = 5_000, 50
"""Nodes of a model written out; or so many times those it is written with, if that is more. Exporters that write a
function for each module or operator use one some dozen times."""
DEEPEST = 100
"""Functions that call each other in a row. Exporters nest them as modules are nested, ten or twenty deep."""


def check_expansion(model: ModelProto, path: Path) -> None:
    """Raise InputError if the functions of a model stand for too many nodes, are nested too deeply, or in a circle."""
    functions = {(function.domain, function.name, function.overload): function for function in model.functions}
    called = {name: list(called_functions(function)) for name, function in functions.items()}
    try:
        groups = list(generations(functions))
    except InputError as error:
        raise InputError(f"ONNX model {path}: {error}") from error
    if len(groups) > DEEPEST:
        raise InputError(
            f"ONNX model {path}: its local functions call each other {len(groups)} deep, the most is {DEEPEST}; "
            "export it again without functions"
        )
    sizes: dict[FunctionId, int] = {}
    for group in reversed(groups):  # those first that call no others
        for name in group:
            sizes[name] = written_out(called[name], sizes)
    nodes = list(map(function_id, all_nodes(model.graph.node)))
    size, stated = written_out(nodes, sizes), len(nodes) + sum(map(len, called.values()))
    most = max(MOST_NODES, MOST_GROWTH * stated)
    if size > most:
        raise InputError(
            f"ONNX model {path}: its {stated} nodes, those of local functions included, stand for "
            f"{shown(size)} once the functions are written out, the most is {most}; export it again without functions"
        )


def written_out(nodes: Iterable[FunctionId], sizes: Mapping[FunctionId, int]) -> int:
    """The number of nodes that some nodes stand for, calls of functions for as many as these hold."""
    return sum(sizes.get(node, 1) for node in nodes)


def shown(number: int) -> str:
    """A number that may have thousands of digits."""
    return str(number) if number < 2**40 else f"about 2^{number.bit_length() - 1}"
