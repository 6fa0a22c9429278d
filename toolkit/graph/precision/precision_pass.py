"""The graph pass that makes a model strongly typed FP16 or BF16."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from toolkit.errors import InputError
from toolkit.graph.graph_pass import Change, GraphPass, NearMiss, Outcome
from toolkit.graph.precision.assignment import assign
from toolkit.graph.precision.casts import insert_casts
from toolkit.graph.precision.policy import PrecisionPolicy, matches, submodule_of

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def precision_pass(policy: PrecisionPolicy) -> GraphPass:
    """The pass that a policy asks for. It raises InputError if a pattern of `policy.keep` matches no node."""
    return GraphPass(
        name=policy.name,
        reason=f"Tensor cores compute products in {policy.label}, and what lies between them takes half the memory.",
        apply=lambda graph: reduce_precision(graph, policy),
        default=False,
        tolerance=math.inf,
        measured=True,
    )


def reduce_precision(graph: gs.Graph, policy: PrecisionPolicy) -> Outcome:
    """Divide the graph's nodes by the policy and cast where the type changes. Inputs and outputs stay as they are."""
    for pattern in policy.keep:
        if not any(matches(pattern, node) for node in graph.nodes):
            raise InputError(f"{pattern!r} is to stay in FP32, but no node, op type or submodule matches it")
    assignment = assign(graph, policy)
    names = [node.name for node in graph.nodes]
    total = Counter(submodule_of(node) for node in graph.nodes)
    fewer = Counter(submodule_of(graph.nodes[position]) for position in assignment.reduced)
    casts = Counter(submodule_of(node) for node in insert_casts(graph, assignment, policy.dtype))
    changes = [
        Change(part or graph.name, f"{policy.label} in {count} of {total[part]} nodes, {casts[part]} casts added")
        for part, count in fewer.items()
    ]
    misses = [NearMiss(pattern, f"nodes kept in FP32 by it: {count}") for pattern, count in assignment.asked.items()]
    misses += [NearMiss(names[position], reason) for position, reason in assignment.kept.items()]
    return Outcome(tuple(changes), tuple(misses))
