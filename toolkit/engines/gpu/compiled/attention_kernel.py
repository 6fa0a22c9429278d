"""Attention in one kernel: logits and weights of a block of queries never leave the multiprocessor."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from toolkit.engines.gpu.compiled.product_kernel import rounded


@triton.jit
def attention_kernel(
    query,
    key,
    value,
    valid,
    out,
    partial,
    arrived,
    scale,
    heads,
    queries,
    keys,
    splits,
    query_batch,
    query_head,
    query_row,
    key_batch,
    key_head,
    key_row,
    value_batch,
    value_head,
    value_row,
    valid_batch,
    valid_head,
    valid_row,
    valid_column,
    MASKED: tl.constexpr,
    MASKED_ROWS: tl.constexpr,
    MASKED_LOGIT: tl.constexpr,
    PRECISION: tl.constexpr,
    EARLY: tl.constexpr,
    SPLIT: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """softmax(scale query key^T, with MASKED_LOGIT where not valid) value, with a running maximum and sum.

    out is [batch, queries, heads, WIDTH], contiguous. Dao et al. 2022 ("FlashAttention", algorithm 1). Where few
    queries meet many keys, `splits` programs share the keys, and the last one to arrive joins what they found in
    `partial`. Without MASKED_ROWS a mask is the same for all queries. EARLY is that of `product_kernel`.
    """
    batch, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    row = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    column = tl.arange(0, BLOCK_K)
    feature = tl.arange(0, WIDTH)
    in_rows = row < queries
    query += batch * query_batch + head * query_head
    key += batch * key_batch + head * key_head
    value += batch * value_batch + head * value_head
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    q = tl.load(query + row[:, None] * query_row + feature[None, :], mask=in_rows[:, None], other=0.0) * scale
    highest = tl.full((BLOCK_Q,), float("-inf"), tl.float32)
    weights = tl.zeros((BLOCK_Q,), tl.float32)
    total = tl.zeros((BLOCK_Q, WIDTH), tl.float32)
    first, last = 0, keys
    if SPLIT:
        share = tl.cdiv(tl.cdiv(keys, BLOCK_K), splits) * BLOCK_K
        first, last = tl.program_id(2) * share, min(keys, (tl.program_id(2) + 1) * share)
    for start in range(first, last, BLOCK_K):
        at = start + column
        in_keys = at < keys
        k = tl.load(key + at[None, :] * key_row + feature[:, None], mask=in_keys[None, :], other=0.0)
        v = tl.load(value + at[:, None] * value_row + feature[None, :], mask=in_keys[:, None], other=0.0)
        logits = product(q, k, PRECISION)
        if MASKED:
            of_keys = valid + batch * valid_batch + head * valid_head + at * valid_column
            if MASKED_ROWS:
                of_rows = of_keys[None, :] + row[:, None] * valid_row
                kept = tl.load(of_rows, mask=in_rows[:, None] & in_keys[None, :], other=0) != 0
            else:
                kept = (tl.load(of_keys, mask=in_keys, other=0) != 0)[None, :]
            logits = tl.where(kept, logits, MASKED_LOGIT)
        logits = tl.where(in_keys[None, :], logits, float("-inf"))
        higher = tl.maximum(highest, tl.max(logits, 1))
        shrink = tl.exp(highest - higher)
        share_of_key = tl.exp(logits - higher[:, None])
        weights = weights * shrink + tl.sum(share_of_key, 1)
        total = total * shrink[:, None] + product(share_of_key, v, PRECISION)
        highest = higher
    if SPLIT:
        block = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
        blocks = tl.num_programs(0) * tl.num_programs(1)
        inner = tl.arange(0, BLOCK_Q)
        sums = partial + (inner[:, None] * WIDTH + feature[None, :])
        scalars = partial + splits * blocks * BLOCK_Q * WIDTH + inner * 2
        mine = tl.program_id(2) * blocks + block
        tl.store(sums + mine * BLOCK_Q * WIDTH, total)
        tl.store(scalars + mine * BLOCK_Q * 2, highest)
        tl.store(scalars + mine * BLOCK_Q * 2 + 1, weights)
        tl.debug_barrier()  # all of it is written before the block says so
        if tl.atomic_add(arrived + block, 1, sem="acq_rel") < splits - 1:
            return
        tl.store(arrived + block, 0)  # for the next launch
        highest = tl.full((BLOCK_Q,), float("-inf"), tl.float32)
        weights = tl.zeros((BLOCK_Q,), tl.float32)
        total = tl.zeros((BLOCK_Q, WIDTH), tl.float32)
        for part in range(splits):  # in order, whoever came last: the same result every time
            other = part * blocks + block
            other_highest = tl.load(scalars + other * BLOCK_Q * 2, cache_modifier=".cg")
            higher = tl.maximum(highest, other_highest)
            shrink, other_shrink = tl.exp(highest - higher), tl.exp(other_highest - higher)
            weights = weights * shrink + other_shrink * tl.load(scalars + other * BLOCK_Q * 2 + 1, cache_modifier=".cg")
            others = tl.load(sums + other * BLOCK_Q * WIDTH, cache_modifier=".cg")
            total = total * shrink[:, None] + others * other_shrink[:, None]
            highest = higher
    to = ((batch * queries + row[:, None]) * heads + head) * WIDTH + feature[None, :]
    tl.store(out + to, total / weights[:, None], mask=in_rows[:, None])


@triton.jit
def product(a, b, PRECISION: tl.constexpr):
    """a b in FP32, with the factors in `PRECISION`."""
    if PRECISION == "fp32":
        a_high, b_high = rounded(a), rounded(b)
        result = tl.dot(a - a_high, b_high, input_precision="tf32")
        result = tl.dot(a_high, b - b_high, result, input_precision="tf32")
        result = tl.dot(a_high, b_high, result, input_precision="tf32")
    elif PRECISION == "tf32":
        result = tl.dot(rounded(a), rounded(b), input_precision="tf32")
    elif PRECISION == "fp16":
        result = tl.dot(a.to(tl.float16), b.to(tl.float16))
    else:
        result = tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16))
    return result
