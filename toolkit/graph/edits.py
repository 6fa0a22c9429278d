"""Small edits of onnx-graphsurgeon graphs, and questions about their nodes, that many passes share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

RANDOM_OPS = (
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"),
    "Dropout",
)
"""Standard operators whose result is not determined by their inputs."""


def graph_and_inner(graph: gs.Graph) -> Iterator[gs.Graph]:
    """A graph and, innermost first, those in the branches and loops of its control flow."""
    for inner in graph.subgraphs():
        yield from graph_and_inner(inner)
    yield graph


def is_standard(node: gs.Node, *ops: str) -> bool:
    """Whether a node is a standard operator, if any are named one of those."""
    return not node.domain and (not ops or node.op in ops)


def is_deterministic(node: gs.Node) -> bool:
    """Whether a node is a standard operator without inner graphs that always makes the same of the same inputs."""
    return is_standard(node) and node.op not in RANDOM_OPS and not any(True for _ in node.subgraphs())


def constant(tensor: gs.Tensor) -> np.ndarray | None:
    """The value of a constant, not kept in memory if it lay in the model's message; None for any other tensor."""
    import onnx_graphsurgeon as gs
    from onnx_graphsurgeon.ir.tensor import LazyValues

    if not isinstance(tensor, gs.Constant):
        return None
    values: np.ndarray = tensor._values.load() if isinstance(tensor._values, LazyValues) else tensor._values
    return values


def stored_bytes(tensor: gs.Tensor) -> int:
    """What a constant takes in the model, whatever size its shape states; 0 for any other tensor."""
    import onnx_graphsurgeon as gs
    from onnx_graphsurgeon.ir.tensor import LazyValues

    if not isinstance(tensor, gs.Constant):
        return 0
    values = tensor._values
    return int(values.tensor.ByteSize() if isinstance(values, LazyValues) else values.nbytes)


def input_constant(node: gs.Node, index: int) -> np.ndarray | None:
    """The value of a node's input, if it is there and constant."""
    return constant(node.inputs[index]) if index < len(node.inputs) else None


def static_shape(tensor: gs.Tensor) -> tuple[int, ...] | None:
    """The shape of a tensor if all of it is known."""
    shape = tensor.shape
    return None if shape is None or not all(isinstance(size, int) for size in shape) else tuple(shape)


def same_dimensions(one: Sequence[int | str | None], other: Sequence[int | str | None]) -> bool:
    """Whether two shapes are known to be the same: equal sizes, or open dimensions of one name."""
    return len(one) == len(other) and all(a is not None and a == b for a, b in zip(one, other, strict=True))


class Rewiring:
    """Changes of what uses the tensors of a graph.

    Its inner graphs are walked once, and not again for every change: meanwhile nothing else may change their outputs.
    """

    def __init__(self, graph: gs.Graph) -> None:
        self._own = {id(node) for node in graph.nodes}
        self._outputs = {id(tensor) for tensor in graph.outputs}
        self._fixed = self._outputs | {id(tensor) for tensor in graph.inputs}
        self._handed_on: dict[int, list[tuple[list[gs.Tensor], int]]] = {}
        for inner in graph.subgraphs(recursive=True):
            for position, tensor in enumerate(inner.outputs):
                self._handed_on.setdefault(id(tensor), []).append((inner.outputs, position))

    def replace(self, old: gs.Tensor, new: gs.Tensor) -> bool:
        """Let everything that uses `old`, which a node of the graph makes, use `new`.

        An output of the graph keeps its name: the node that made `new` makes it instead. False, and nothing is changed,
        if that cannot be, because `new` is itself an output or input, or constant, or made outside, or handed on as its
        own output by an inner graph.
        """
        if id(old) not in self._outputs:
            self.redirect(old, new)
            return True
        makers = [node for node in new.inputs if id(node) in self._own]
        if not makers or id(new) in self._fixed or id(new) in self._handed_on:
            return False
        old.inputs.clear()
        self.redirect(new, old)
        makers[0].outputs[index_of(makers[0].outputs, new)] = old
        return True

    def redirect(self, old: gs.Tensor, new: gs.Tensor) -> None:
        """Let nodes, and outputs of inner graphs, that use `old` use `new`."""
        for user in list(old.outputs):
            for index, tensor in enumerate(user.inputs):
                if tensor is old:
                    user.inputs[index] = new
        for outputs, position in self._handed_on.pop(id(old), ()):
            outputs[position] = new
            self._handed_on.setdefault(id(new), []).append((outputs, position))

    def take_over(self, node: gs.Node, result: gs.Tensor) -> None:
        """Let a tensor of a new node stand for the output of `node`, under its name, so that outputs keep theirs."""
        [output] = node.outputs
        node.outputs.clear()
        [maker] = result.inputs
        self.redirect(result, output)
        maker.outputs = [output]


def index_of(tensors: Any, tensor: gs.Tensor) -> int:
    """The position of this very tensor."""
    return next(index for index, item in enumerate(tensors) if item is tensor)
