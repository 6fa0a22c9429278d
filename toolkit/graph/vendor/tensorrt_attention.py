"""The attention plugin that comes with TensorRT, and that of mmdeploy, become our op.

``MultiscaleDeformableAttnPlugin_TRT`` takes value [B, S, H, C], spatial shapes [L, 2], the start of each level [L],
sampling locations [B, Q, H, L, P, 2] in [0, 1] and weights [B, Q, H, L, P]. Ours has the softmax and the location
arithmetic inside, so it stands for the plugin only where both are found before it.
``MMCVMultiScaleDeformableAttention`` takes the same, and gives the heads in one axis [B, Q, H*C].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toolkit.graph.edits import constant, input_constant, is_standard
from toolkit.graph.unfit import Unfit
from toolkit.ops.spec import DOMAIN

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

TENSORRT_ATTENTION = "MultiscaleDeformableAttnPlugin_TRT"
MMCV_ATTENTION = "MMCVMultiScaleDeformableAttention"

CONSTANT_SHAPES = "export with the spatial shapes as a constant, for one image size, not as an input"
WHOLE_MODULE = "export the attention as a whole, with the softmax and the locations before this node"


def from_tensorrt_attention(graph: gs.Graph, node: gs.Node) -> None:
    """Rewrite such a node in place. Raises Unfit if what precedes it is not softmax and location arithmetic."""
    if len(node.inputs) != 5:
        raise Unfit(f"it has {len(node.inputs)} inputs, not 5")
    value, _, _, locations, weights = node.inputs
    shapes = input_constant(node, 1)
    if shapes is None:
        raise Unfit("its spatial shapes are not constant", CONSTANT_SHAPES)
    logits = logits_of(weights, locations)
    reference, shifts = terms_of(locations)
    offsets = offsets_of(graph, node, shifts, shapes.reshape(-1, 2))
    node.op, node.domain = "MultiScaleDeformableAttention", DOMAIN
    node.attrs = {"spatial_shapes": [int(size) for size in shapes.ravel()]}
    node.inputs = [
        value,
        added(graph, node, "Squeeze", "reference", [reference, np.array([2, 4])]),
        added(graph, node, "Reshape", "offsets", [offsets, np.array([0, 0, 0, -1])]),
        logits,
    ]


def from_mmcv_attention(graph: gs.Graph, node: gs.Node) -> None:
    """Rewrite such a node, with a reshape after it. Raises Unfit as `from_tensorrt_attention` does."""
    import onnx_graphsurgeon as gs

    from_tensorrt_attention(graph, node)
    [output] = node.outputs
    heads_apart = gs.Variable(f"{node.name}/heads", output.dtype)
    node.outputs = [heads_apart]
    shape = gs.Constant(f"{node.name}/heads/shape", np.array([0, 0, -1]))
    graph.nodes.append(gs.Node("Reshape", f"{node.name}/joined", inputs=[heads_apart, shape], outputs=[output]))


def logits_of(weights: gs.Tensor, locations: gs.Tensor) -> gs.Tensor:
    """Logits [B, Q, H, L*P] of which the weights are the softmax. Raises Unfit if there are none."""
    maker = weights.inputs[0] if weights.inputs else None
    while maker is not None and is_standard(maker, "Reshape", "Identity", "Unsqueeze"):
        maker = maker.inputs[0].inputs[0] if maker.inputs[0].inputs else None
    if maker is None or not is_standard(maker, "Softmax"):
        raise Unfit("its weights do not come from a Softmax", WHOLE_MODULE)
    logits = maker.inputs[0]
    shape, points = logits.shape, locations.shape
    if points is None or len(points) != 6 or not all(isinstance(size, int) for size in points[3:5]):
        raise Unfit(f"its sampling locations have the shape {points}")
    if (
        shape is None
        or len(shape) != 4
        or shape[3] != points[3] * points[4]
        or maker.attrs.get("axis", -1) not in (-1, 3)
    ):
        raise Unfit(f"the Softmax before it is over {shape}, not over the points of all levels")
    return logits


def terms_of(locations: gs.Tensor) -> tuple[gs.Tensor, gs.Tensor]:
    """Reference points [B, Q, 1, 1 or L, 1, 2] and what is added to them. Raises Unfit if there is no such sum."""
    maker = locations.inputs[0] if locations.inputs else None
    if maker is not None and is_standard(maker, "Add"):
        for reference, shifts in (maker.inputs, reversed(maker.inputs)):
            shape = reference.shape
            if shape is not None and len(shape) == 6 and shape[2] == shape[4] == 1:
                return reference, shifts
    raise Unfit("its sampling locations are not a sum of reference points and offsets", WHOLE_MODULE)


def offsets_of(graph: gs.Graph, node: gs.Node, shifts: gs.Tensor, shapes: np.ndarray) -> gs.Tensor:
    """Offsets [B, Q, H, L, P, 2] in cells from those relative to the map: what was divided by its size, if it was."""
    sizes = shapes[:, None, ::-1].astype(np.float32)  # [L, 1, 2] as (w, h)
    maker = shifts.inputs[0] if shifts.inputs else None
    if maker is not None and is_standard(maker, "Div"):
        divisor = constant(maker.inputs[1])
        if divisor is not None and divisor.ndim <= 6 and fills(divisor, sizes):
            return maker.inputs[0]
    return added(graph, node, "Mul", "cells", [shifts, sizes.astype(shifts.dtype or np.float32)])


def fills(divisor: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether a divisor of [B, Q, H, L, P, 2] is the size of each level."""
    whole = np.broadcast_to(divisor, np.broadcast_shapes(divisor.shape, (1, 1, 1, len(sizes), 1, 2)))
    return whole.size == sizes.size and bool((whole.reshape(sizes.shape) == sizes).all())


def added(graph: gs.Graph, node: gs.Node, op: str, what: str, inputs: list[gs.Tensor | np.ndarray]) -> gs.Tensor:
    """The result of a new node before `node`; arrays become constants."""
    import onnx_graphsurgeon as gs

    name = f"{node.name}/{what}"
    tensors = [gs.Constant(f"{name}/{i}", x) if isinstance(x, np.ndarray) else x for i, x in enumerate(inputs)]
    output = gs.Variable(name, inputs[0].dtype)
    graph.nodes.append(gs.Node(op, name, inputs=tensors, outputs=[output]))
    return output
