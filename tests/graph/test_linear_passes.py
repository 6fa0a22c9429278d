"""The work of a pass grows as the model does, in whatever way its nodes hang together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from tests.graph.rewriting import text_model
from toolkit.graph.cleanup.common_subexpressions import MERGE_COMMON_SUBEXPRESSIONS
from toolkit.graph.cleanup.duplicate_initializers import MERGE_DUPLICATE_INITIALIZERS
from toolkit.graph.cleanup.identities import REMOVE_IDENTITIES
from toolkit.graph.conversion import to_graph
from toolkit.graph.graph_pass import GraphPass
from toolkit.graph.pipeline import run_pass

pytestmark = pytest.mark.thorough

FEW, MANY = 250, 2_000


def chain(text: str, count: int) -> str:
    """From ``v0`` to ``v{count}``; the text is a node from ``{a}`` to ``{b}``."""
    return "\n".join(text.format(a=f"v{index}", b=f"v{index + 1}", index=index) for index in range(count))


def in_a_row(text: str) -> Callable[[int], gs.Graph]:
    def graph(count: int) -> gs.Graph:
        nodes = chain(text, count)
        model = text_model(f"m (float[2, 2] x) => (float[2, 2] y) {{ v0 = Exp (x) {nodes} y = Exp (v{count}) }}")
        return to_graph(model, ())

    return graph


def in_a_branch(count: int) -> gs.Graph:
    nodes = chain("{b} = Identity ({a})", count)
    branches = (
        f"then_branch = t () => (v{count}) {{ v0 = Exp (x) {nodes} }}, else_branch = e () => (z) {{ z = Neg (x) }}"
    )
    return to_graph(text_model(f"m (float[2] x, bool c) => (float[2] y) {{ y = If (c) <{branches}> }}"), ())


def side_by_side(op: str) -> Callable[[int], gs.Graph]:
    """Nodes of one tensor, between others of that tensor, which stay; each of these has a constant of its own."""

    def graph(count: int) -> gs.Graph:
        two = f"{{b}}_one = {op} (x) {{b}}_other = Sub (x, c{{index}})"
        nodes = chain(f"{two} {{b}}_sum = Add ({{b}}_one, {{b}}_other) {{b}} = Add ({{a}}, {{b}}_sum)", count)
        constants = {f"c{index}": np.full(2, 3, np.float32) for index in range(count)}
        return to_graph(
            text_model(f"m (float[2] x) => (float[2] v{count}) {{ v0 = Exp (x) {nodes} }}", **constants), ()
        )

    return graph


CASES = {
    "identities": (REMOVE_IDENTITIES, in_a_row("{b} = Identity ({a})")),
    "casts": (REMOVE_IDENTITIES, in_a_row("{b} = Cast <to = 1> ({a})")),
    "transpositions": (REMOVE_IDENTITIES, in_a_row("{b} = Transpose <perm = [1, 0]> ({a})")),
    "reshapes": (
        REMOVE_IDENTITIES,
        in_a_row("s{index} = Constant <value_ints = [2, 2]> () {b} = Reshape ({a}, s{index})"),
    ),
    "identities in a branch": (REMOVE_IDENTITIES, in_a_branch),
    "identities of one tensor": (REMOVE_IDENTITIES, side_by_side("Identity")),
    "equal nodes": (MERGE_COMMON_SUBEXPRESSIONS, side_by_side("Relu")),
    "equal constants": (MERGE_DUPLICATE_INITIALIZERS, side_by_side("Relu")),
}


@pytest.mark.parametrize(("graph_pass", "graph"), CASES.values(), ids=CASES)
def test_calls_grow_as_nodes_do(graph_pass: GraphPass, graph: Callable[[int], gs.Graph]) -> None:
    """Eight times the nodes take eight times the calls; quadratic work would take up to sixty-four times."""
    assert calls_of(graph_pass, graph(MANY)) < 12 * calls_of(graph_pass, graph(FEW))


def calls_of(graph_pass: GraphPass, graph: gs.Graph) -> int:
    """How many functions one run of a pass calls, those of libraries and steps of generators included."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        run = run_pass(graph_pass, graph)
    finally:
        sys.setprofile(before)
    assert len(run.outcome.changes) >= FEW / 2
    return count
