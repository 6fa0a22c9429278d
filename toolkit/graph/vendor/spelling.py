"""Our custom nodes become those of other deployments, whose TensorRT plugins then compute them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from toolkit.graph.edits import graph_and_inner, same_dimensions
from toolkit.graph.graph_pass import Change, GraphPass, NearMiss, Outcome
from toolkit.graph.unfit import Unfit
from toolkit.graph.vendor.recognition import INTERPOLATIONS
from toolkit.ops.spec import DOMAIN

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

VENDOR_DOMAIN = "TRT"
"""TensorRT finds a plugin by the name of the operator alone; the domain tells ONNX that it is not a standard one."""


def apply(graph: gs.Graph) -> Outcome:
    """Rewrite each of our nodes that has a counterpart in place, or say why it is left."""
    changes, near_misses = [], []
    for part in graph_and_inner(graph):
        for node in part.nodes:
            if node.domain != DOMAIN:
                continue
            try:
                respell(node)
            except Unfit as reason:
                near_misses.append(NearMiss(node.name, str(reason)))
            else:
                node.domain = VENDOR_DOMAIN
                changes.append(Change(node.name, f"is {node.op}"))
    return Outcome(tuple(changes), tuple(near_misses))


def respell(node: gs.Node) -> None:
    """Operator, inputs and attributes of the counterpart. Raises Unfit if there is none for this node."""
    import onnx_graphsurgeon as gs

    if node.op == "MultiScaleDeformableAttention":
        value, reference, offsets, logits = node.inputs
        known = value.shape is not None and reference.shape is not None
        if not known or not same_dimensions(reference.shape[:1], value.shape[:1]) or reference.shape[2] != 1:
            raise Unfit(f"reference points {reference.shape} of values {value.shape} are not [B, Q, 1, 2D]")
        shapes = np.array(node.attrs["spatial_shapes"], np.int32).reshape(-1, 2)
        sizes = gs.Constant(f"{node.name}/spatial_shapes", shapes)
        node.op, node.attrs = "MultiScaleDeformableAttnTRT", {}
        node.inputs = [value, sizes, reference, offsets, logits]
    elif node.op == "Rotate":
        node.op, node.attrs = "RotateTRT", {"interpolation": INTERPOLATIONS.index(node.attrs["interpolation"])}
    elif node.op == "Inverse":
        node.op = "InverseTRT"
    else:
        raise Unfit(f"{node.op} has no counterpart")


TO_VENDOR_SPELLINGS = GraphPass(
    "to-vendor-spellings",
    "An application that has the plugins of the reference deployment can go on using them.",
    apply,
    default=False,
    tolerance=math.inf,
)
