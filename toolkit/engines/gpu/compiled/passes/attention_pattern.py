"""Scaled dot-product attention as it stands in an exported graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch.fx import Node

from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, is_call, shape_of


@dataclass(frozen=True)
class AttentionPattern:
    """softmax(scale * q k^T, replaced by `masked` where not `valid`) v. All but `valid` are [..., heads, N, C]."""

    query: Node
    key: Node
    value: Node
    scale: float
    valid: Node | None
    masked: float


def match_attention(node: Node) -> AttentionPattern | None:
    """The attention whose last product is `node`, an aten.matmul; None where it is no attention."""
    weights, value = node.args
    if not is_call(weights, Aten.softmax.int) or not isinstance(weights, Node) or len(weights.users) > 1:
        return None
    logits, axis = weights.args[:2]
    if not isinstance(logits, Node) or not isinstance(value, Node) or axis not in (-1, len(shape_of(weights)) - 1):
        return None
    valid, masked = None, 0.0
    if is_call(logits, Aten.where.ScalarOther):
        condition, logits, other = logits.args
        if not isinstance(condition, Node) or not isinstance(other, int | float):
            return None
        valid, masked = condition, float(other)
    if not is_call(logits, Aten.matmul.default) or not isinstance(logits, Node):
        return None
    if shape_of(logits) != shape_of(weights):
        return None  # the mask has more batches than the logits
    scaled, transposed = logits.args
    if not is_call(transposed, Aten.transpose.int) or not isinstance(transposed, Node):
        return None
    key, *axes = transposed.args
    if not isinstance(scaled, Node) or not isinstance(key, Node) or not _are_last_two(axes, len(shape_of(key))):
        return None
    query, scale = _unscaled(scaled)
    if not len(shape_of(query)) == len(shape_of(key)) == len(shape_of(value)) in (3, 4):
        return None
    return AttentionPattern(query, key, value, scale, valid, masked)


def _are_last_two(axes: Sequence[object], rank: int) -> bool:
    return {axis % rank for axis in axes if isinstance(axis, int)} == {rank - 1, rank - 2}


def _unscaled(query: Node) -> tuple[Node, float]:
    """The query before its multiplication by a number, and that number."""
    if is_call(query, Aten.mul.Tensor, Aten.div.Tensor):
        source, factor = query.args
        if isinstance(source, Node) and isinstance(factor, int | float):
            return source, float(factor) if query.target is Aten.mul.Tensor else 1 / float(factor)
    return query, 1.0
