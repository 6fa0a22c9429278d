"""A graph pass in one file: squares by multiplication.

uniad-toolkit rewrite model.onnx -o out.onnx --plugin docs/examples/square_by_multiplication.py --explain
"""

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from toolkit.graph.edits import graph_and_inner, input_constant, is_standard
from toolkit.graph.graph_pass import Change, GraphPass, NearMiss, Outcome
from toolkit.hookspecs import hookimpl


def apply(graph: gs.Graph) -> Outcome:
    """Turn each ``Pow`` with exponent 2 into a ``Mul`` of its base with itself."""
    changes, near_misses = [], []
    for part in graph_and_inner(graph):
        for node in part.nodes:
            if not is_standard(node, "Pow"):
                continue
            exponent = input_constant(node, 1)
            if exponent is None:
                near_misses.append(NearMiss(node.name, "its exponent is not constant"))
            elif exponent.shape != () or exponent != 2:
                near_misses.append(NearMiss(node.name, f"its exponent is {exponent.tolist()}"))
            else:
                node.op, node.inputs = "Mul", [node.inputs[0], node.inputs[0]]
                changes.append(Change(node.name, "squares by multiplication"))
    return Outcome(tuple(changes), tuple(near_misses))


SQUARE_BY_MULTIPLICATION = GraphPass(
    name="square-by-multiplication",
    reason="A power is computed by logarithm and exponential; a square needs one multiplication.",
    apply=apply,
    tolerance=1e-6,
)


@hookimpl
def uniad_graph_passes() -> Sequence[GraphPass]:
    return (SQUARE_BY_MULTIPLICATION,)
