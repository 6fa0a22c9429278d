"""Scaled dot-product attention becomes one call of the operator that has a kernel of its own."""

from __future__ import annotations

from math import prod

import torch
from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.kernels.tiles import attention_tile
from toolkit.engines.gpu.compiled.passes.attention_pattern import AttentionPattern, match_attention
from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, calls, finish, replace, shape_of
from toolkit.engines.gpu.compiled.passes.use_linear import add_counters
from toolkit.nn.attention import MASKED_LOGIT
from toolkit.precision import Precision

WIDTHS = (16, 32, 64, 128)
"""Features of a head that the kernel takes."""


def use_attention(gm: GraphModule, precision: Precision) -> int:
    """Replace matmul, mask, softmax, matmul; returns the number replaced.

    A single query stays: it is a row of products, which the compiler fuses with its neighbours.
    """
    rewrites = 0
    for node in calls(gm, Aten.matmul.default):
        attention = match_attention(node)
        if attention is not None and _fits(attention):
            with gm.graph.inserting_before(node):
                replace(node, _call(gm, attention, precision))
            rewrites += 1
    return finish(gm, rewrites)


def _fits(attention: AttentionPattern) -> bool:
    *batch_heads, queries, width = shape_of(attention.query)
    alike = all(
        [*shape[:-2], shape[-1]] == [*batch_heads, width] for shape in map(shape_of, (attention.key, attention.value))
    )
    masked_alike = attention.valid is None or attention.masked == MASKED_LOGIT
    operands = attention.query, attention.key, attention.value
    in_fp32 = all(operand.meta["val"].dtype == torch.float32 for operand in operands)
    return queries > 1 and width in WIDTHS and alike and masked_alike and in_fp32


def _call(gm: GraphModule, attention: AttentionPattern, precision: Precision) -> Node:
    call = gm.graph.call_function
    operands = [attention.query, attention.key, attention.value]
    batched = len(shape_of(attention.query)) == 4
    if not batched:
        operands = [call(Aten.unsqueeze.default, (operand, 0)) for operand in operands]
    valid = attention.valid
    if valid is not None:
        shape = shape_of(valid)
        valid = call(Aten.reshape.default, (valid, [1] * (4 - len(shape)) + list(shape)))
    *batch_heads, queries, _ = shape_of(attention.query)
    keys = shape_of(attention.key)[-2]
    tile = attention_tile(prod(batch_heads), queries, keys, precision)
    blocks = tile.programs(queries, 1) * prod(batch_heads)
    arrived = add_counters(gm, tile, blocks, attention.query.meta["val"].device)
    operator = torch.ops.uniad_gpu.attention.default
    out = call(operator, (*operands, valid, arrived, attention.scale, str(precision)))
    out = call(Aten.transpose.int, (out, 1, 2))
    return out if batched else call(Aten.squeeze.dim, (out, 0))
