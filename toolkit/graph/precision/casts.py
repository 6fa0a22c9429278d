"""Carrying out a precision assignment: casts where the type changes, constants stored in the type of their users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toolkit.graph.edits import Rewiring, constant, index_of
from toolkit.graph.precision.assignment import Assignment
from toolkit.graph.precision.element_types import FLOAT32, onnx_type

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def insert_casts(graph: gs.Graph, assignment: Assignment, dtype: np.dtype) -> list[gs.Node]:
    """Give the assigned nodes tensors of type `dtype`, in place; the new Cast nodes.

    A tensor is cast once however many nodes read it. Graph inputs and outputs keep their names and types.
    """
    caster = _Caster(graph)
    reduced = {id(graph.nodes[p].outputs[i]) for p, ports in assignment.reduced.items() for i in ports.outputs}
    nodes = list(graph.nodes)
    for output in graph.outputs:
        if id(output) in reduced:
            reduced.add(id(caster.detach_output(output, dtype)))
            reduced.remove(id(output))
    for position, node in enumerate(nodes):
        ports = assignment.reduced.get(position)
        for i, tensor in enumerate(node.inputs):
            if ports and i in ports.inputs:
                if id(tensor) not in reduced:
                    node.inputs[i] = caster.cast(tensor, dtype, node)
            elif id(tensor) in reduced and node.op != "Cast":
                node.inputs[i] = caster.cast(tensor, FLOAT32, node)
        for i in ports.outputs if ports else ():
            node.outputs[i].dtype = dtype
    return caster.nodes


class _Caster:
    """Tensors of a graph in another type, each made once."""

    def __init__(self, graph: gs.Graph) -> None:
        self.nodes: list[gs.Node] = []
        self._graph, self._rewiring = graph, Rewiring(graph)
        self._made: dict[tuple[int, np.dtype], gs.Tensor] = {}
        self._names = {*graph.tensors(), *(node.name for node in graph.nodes)}

    def cast(self, tensor: gs.Tensor, dtype: np.dtype, reader: gs.Node) -> gs.Tensor:
        """`tensor` in `dtype`: a rounded constant, or the output of a Cast node named after where it comes from."""
        import onnx_graphsurgeon as gs

        key = id(tensor), dtype
        if key not in self._made:
            if (values := constant(tensor)) is not None:
                values = values.astype(dtype)
                self._made[key] = gs.Constant(self._free(f"{tensor.name}_{dtype.name}"), values)
            else:
                output = gs.Variable(self._free(f"{tensor.name}_{dtype.name}"), dtype, tensor.shape)
                self._node(tensor, output, (tensor.inputs or [reader])[0])
                self._made[key] = output
        return self._made[key]

    def detach_output(self, output: gs.Variable, dtype: np.dtype) -> gs.Variable:
        """A tensor that takes a graph output's place inside the graph; the output itself becomes its cast to FP32."""
        import onnx_graphsurgeon as gs

        inner = gs.Variable(self._free(f"{output.name}_{dtype.name}"), dtype, output.shape)
        producer = output.inputs[0]
        producer.outputs[index_of(producer.outputs, output)] = inner
        self._rewiring.redirect(output, inner)
        self._node(inner, output, producer)
        self._made[id(inner), FLOAT32] = output
        return inner

    def _node(self, source: gs.Tensor, target: gs.Variable, near: gs.Node) -> None:
        import onnx_graphsurgeon as gs

        name = self._free(f"{near.name}_cast_{np.dtype(target.dtype).name}")
        node = gs.Node("Cast", name, {"to": onnx_type(target.dtype)}, [source], [target])
        self._graph.nodes.append(node)
        self.nodes.append(node)

    def _free(self, name: str) -> str:
        """The name, or with a number if it is taken."""
        number, free = 1, name
        while free in self._names:
            number, free = number + 1, f"{name}_{number + 1}"
        self._names.add(free)
        return free
