"""The pass: every sum of samples times weights that is deformable attention becomes one node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit.graph.deformable_attention import remedies
from toolkit.graph.deformable_attention.attention import attention
from toolkit.graph.deformable_attention.recipe import fusion_of
from toolkit.graph.deformable_attention.rewrite import insert, node_type
from toolkit.graph.deformable_attention.samples import samples_in
from toolkit.graph.deformable_attention.sizes import Sizes, two_choices
from toolkit.graph.deformable_attention.weighted_sum import PRODUCT_OPS, weighted_sum
from toolkit.graph.graph_pass import Change, GraphPass, NearMiss, Outcome
from toolkit.graph.unfit import Unfit, remedied

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def fuse(graph: gs.Graph) -> Outcome:
    """Fuse what can be fused; say of other products of samples why they cannot, and how they could."""
    if not any(node.op == "GridSample" for node in graph.nodes):
        return Outcome()
    choices = two_choices(graph)
    changes, near_misses = [], []
    for node in [node for node in graph.nodes if node.op in PRODUCT_OPS and not node.domain]:
        try:
            with remedied(remedies.SUM):
                operand = sampled_operand(node, choices[0])
            if operand is not None:
                changes.append(fused(graph, node, operand, choices))
        except Unfit as unfit:
            near_misses.append(NearMiss(node.name, str(unfit), unfit.remedy))
    return Outcome(tuple(changes), tuple(near_misses))


def sampled_operand(product: gs.Node, sizes: Sizes) -> int | None:
    """Which factor of a product of two computed tensors consists of samples, None if none does."""
    if len(product.inputs) != 2 or any(sizes.value(factor) is not None for factor in product.inputs):
        return None
    return next((index for index in (0, 1) if samples_in(product.inputs[index], sizes)), None)


def fused(graph: gs.Graph, product: gs.Node, operand: int, choices: Sequence[Sizes]) -> Change:
    """Fuse the attention whose samples are multiplied here. Raises Unfit, with the graph as it was, if it is none."""
    kept = {id(tensor) for tensor in graph.outputs}
    with remedied(remedies.SUM):
        sums = [weighted_sum(product, operand, sizes) for sizes in choices]
    attentions = [attention(summed, kept, sizes) for summed, sizes in zip(sums, choices, strict=True)]
    with remedied(remedies.OPEN_DIMENSIONS):
        fusion = fusion_of(attentions)
    nodes = sums[0].samples.nodes
    name = fused_name(nodes[0].name, node_type(fusion))
    insert(graph, fusion, name)
    points = f" with {fusion.level_points} points" if fusion.uneven else ""
    return Change(name, f"fused from {len(nodes)} GridSample nodes, a level each, of {fusion.spatial_shapes}{points}")


def fused_name(name: str, op: str) -> str:
    """The name of a fused node, by that of its first GridSample."""
    return name.replace("GridSample", op) if "GridSample" in name else f"{name}/{op}"


FUSE_DEFORMABLE_ATTENTION = GraphPass(
    "fuse-deformable-attention",
    "multi-scale deformable attention is one kernel instead of a GridSample per level and some fifty nodes around them",
    fuse,
)
