"""Custom nodes of other deployments become ours.

Deployments of BEVFormer and UniAD write the nodes below; their plugins of the names that end in 2 compute the same in
packed half precision.

- ``MultiScaleDeformableAttnTRT(2)``: value [B, S, H, C], spatial shapes [L, 2] as (h, w), reference points
  [B, Q, 1, 2D], offsets [B, Q, H, L*P*2] and attention logits [B, Q, H, L*P], as our op takes them;
- ``RotateTRT(2)``: image [C, H, W], angle in degrees, centre (x, y) in pixels; attribute ``interpolation``;
- ``InverseTRT``, and ``Inverse`` of ONNX Runtime's own operators: square matrices;
- ``mmdeploy::grid_sampler``: GridSample with its modes as numbers.

``MultiscaleDeformableAttnPlugin_TRT``, which comes with TensorRT, and ``mmdeploy::MMCVMultiScaleDeformableAttention``
are in `toolkit.graph.vendor.tensorrt_attention`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from toolkit.graph.edits import graph_and_inner, input_constant
from toolkit.graph.graph_pass import Change, GraphPass, NearMiss, Outcome
from toolkit.graph.unfit import Unfit
from toolkit.graph.vendor.tensorrt_attention import (
    CONSTANT_SHAPES,
    MMCV_ATTENTION,
    TENSORRT_ATTENTION,
    from_mmcv_attention,
    from_tensorrt_attention,
)
from toolkit.ops.spec import DOMAIN

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

INTERPOLATIONS = ("bilinear", "nearest")
"""Of ``RotateTRT``, by number."""
SAMPLINGS, RENAMED_SAMPLINGS, RENAMED_IN = ("bilinear", "nearest", "bicubic"), ("linear", "nearest", "cubic"), 20
"""Of ``grid_sampler``, by number, in GridSample's words, and in those from an opset on."""
PADDINGS = ("zeros", "border", "reflection")


def apply(graph: gs.Graph) -> Outcome:
    """Rewrite each such node in place, or say why it is left."""
    changes, near_misses = [], []
    for part in graph_and_inner(graph):
        for node in list(part.nodes):
            read = SPELLINGS.get(node.op)
            if read is None or node.domain == DOMAIN:
                continue
            spelling = node.op
            try:
                read(part, node)
            except Unfit as reason:
                near_misses.append(NearMiss(node.name, f"{spelling}: {reason}", reason.remedy))
            else:
                changes.append(Change(node.name, f"{spelling} is {node.domain or 'ai.onnx'}::{node.op}"))
    return Outcome(tuple(changes), tuple(near_misses))


def become(node: gs.Node, op: str, inputs: list[gs.Tensor], attributes: Mapping[str, Any]) -> None:
    """Turn a node into one of our own."""
    node.op, node.domain, node.attrs = op, DOMAIN, dict(attributes)
    node.inputs = inputs


def from_attention(graph: gs.Graph, node: gs.Node) -> None:
    """``MultiScaleDeformableAttnTRT``. Raises Unfit for other kinds of it, and for sizes that are not constant."""
    if len(node.inputs) != 5:
        raise Unfit(f"it has {len(node.inputs)} inputs; only the kind that takes reference points and offsets is ours")
    value, _, reference, offsets, logits = node.inputs
    shapes = input_constant(node, 1)
    if shapes is None:
        raise Unfit("its spatial shapes are not constant", CONSTANT_SHAPES)
    if reference.shape is None or len(reference.shape) != 4 or reference.shape[2] != 1:
        raise Unfit(f"its reference points have the shape {reference.shape}, not [B, Q, 1, 2D]")
    if any(maker.op == "Softmax" for maker in logits.inputs):
        raise Unfit("a Softmax precedes it, though our op, like the plugin of this name, has its own")
    sizes = [int(size) for size in shapes.ravel()]
    become(node, "MultiScaleDeformableAttention", [value, reference, offsets, logits], {"spatial_shapes": sizes})


def from_rotate(graph: gs.Graph, node: gs.Node) -> None:
    """``RotateTRT``. Raises Unfit for an interpolation that it does not have."""
    number = node.attrs.get("interpolation")
    if number not in (0, 1) or len(node.inputs) != 3:
        raise Unfit(f"its interpolation is {number!r}, with {len(node.inputs)} inputs; 0 or 1 with 3 are known")
    become(node, "Rotate", list(node.inputs), {"interpolation": INTERPOLATIONS[number]})


def from_inverse(graph: gs.Graph, node: gs.Node) -> None:
    """``InverseTRT`` and ``com.microsoft::Inverse``. Raises Unfit for matrices of unknown size or more than 4 rows."""
    shape = node.inputs[0].shape
    if shape is None or len(shape) < 2 or shape[-1] not in (1, 2, 3, 4):
        raise Unfit(f"its matrices have the shape {shape}; up to 4x4 are known")
    become(node, "Inverse", list(node.inputs), {})


def from_grid_sampler(graph: gs.Graph, node: gs.Node) -> None:
    """``mmdeploy::grid_sampler``. Raises Unfit for a mode that it does not have."""
    interpolation, padding = (node.attrs.get(name) for name in ("interpolation_mode", "padding_mode"))
    if interpolation not in (0, 1, 2) or padding not in (0, 1, 2) or len(node.inputs) != 2:
        modes = f"its modes are {interpolation!r} and {padding!r}, with {len(node.inputs)} inputs"
        raise Unfit(f"{modes}; 0 to 2 with 2 are known")
    names = SAMPLINGS if graph.opset < RENAMED_IN else RENAMED_SAMPLINGS
    node.op, node.domain = "GridSample", None
    node.attrs = {
        "mode": names[interpolation],
        "padding_mode": PADDINGS[padding],
        "align_corners": int(node.attrs.get("align_corners", 0)),
    }


SPELLINGS: Mapping[str, Callable[[gs.Graph, gs.Node], None]] = {
    "MultiScaleDeformableAttnTRT": from_attention,
    "MultiScaleDeformableAttnTRT2": from_attention,
    TENSORRT_ATTENTION: from_tensorrt_attention,
    MMCV_ATTENTION: from_mmcv_attention,
    "grid_sampler": from_grid_sampler,
    "RotateTRT": from_rotate,
    "RotateTRT2": from_rotate,
    "InverseTRT": from_inverse,
    "Inverse": from_inverse,
}

RECOGNISE_VENDOR_NODES = GraphPass(
    "recognise-vendor-nodes",
    "Other deployments have the same custom ops under other names, and ONNX Runtime can run only ours.",
    apply,
)
