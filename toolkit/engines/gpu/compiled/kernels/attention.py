"""Attention in one kernel: logits and weights of a block of queries never leave the multiprocessor."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from toolkit.engines.gpu.compiled.kernels.product import LOW_SCALE, PAIR_SCALE, overflowed, rounded

LOG2E = tl.constexpr(1.4426950408889634)
SHARE_BITS = tl.constexpr(14.0)  # weights, at most 1 before they are divided by their sum, are multiplied by 2^14


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
    KEYS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """softmax(scale query key^T, with MASKED_LOGIT where not valid) value, with a running maximum and sum.

    out is [batch, queries, heads, WIDTH], contiguous. Dao et al. 2022 ("FlashAttention", algorithm 1). Where few
    queries meet many keys, `splits` programs share the keys, and the last one to arrive joins what they found in
    `partial`. Without MASKED_ROWS a mask is the same for all queries; with KEYS, a power of two that is not less than
    the number of keys, those behind the last valid one are not read then, since they would add zeros. Logits are
    multiplied by log2(e), and powers are of 2. EARLY is that of `product_kernel`.
    """
    batch, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    row = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    feature = tl.arange(0, WIDTH)
    in_rows = row < queries
    query += batch * query_batch + head * query_head
    key += batch * key_batch + head * key_head
    value += batch * value_batch + head * value_head
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    q = tl.load(query + row[:, None] * query_row + feature[None, :], mask=in_rows[:, None], other=0.0) * (scale * LOG2E)
    if MASKED:
        valid += batch * valid_batch + head * valid_head
    if KEYS > 0:
        every = tl.arange(0, KEYS)
        kept = tl.load(valid + every * valid_column, mask=every < keys, other=0) != 0
        behind = tl.max(tl.where(kept, every + 1, 0))
        keys = tl.where(behind > 0, behind, keys)
    first, last = 0, keys
    if SPLIT:
        share = tl.cdiv(tl.cdiv(keys, BLOCK_K), splits) * BLOCK_K
        first, last = tl.program_id(2) * share, min(keys, (tl.program_id(2) + 1) * share)
    highest, weights, total = attend(
        q, key, value, valid, first, last, row, queries, key_row, value_row, valid_row, valid_column,
        MASKED, MASKED_ROWS, MASKED_LOGIT, "pairs" if PRECISION == "fp32" else PRECISION, WIDTH, BLOCK_Q, BLOCK_K,
    )  # fmt: skip
    if PRECISION == "fp32":  # noqa: SIM102 - the one is known to the compiler, the other is not
        if overflowed(total):  # FP16 cannot hold a factor, which is rare, and takes longer
            highest, weights, total = attend(
                q, key, value, valid, first, last, row, queries, key_row, value_row, valid_row, valid_column,
                MASKED, MASKED_ROWS, MASKED_LOGIT, "fp32", WIDTH, BLOCK_Q, BLOCK_K,
            )  # fmt: skip
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
            shrink, other_shrink = tl.exp2(highest - higher), tl.exp2(other_highest - higher)
            weights = weights * shrink + other_shrink * tl.load(scalars + other * BLOCK_Q * 2 + 1, cache_modifier=".cg")
            others = tl.load(sums + other * BLOCK_Q * WIDTH, cache_modifier=".cg")
            total = total * shrink[:, None] + others * other_shrink[:, None]
            highest = higher
    to = ((batch * queries + row[:, None]) * heads + head) * WIDTH + feature[None, :]
    tl.store(out + to, total / weights[:, None], mask=in_rows[:, None])


@triton.jit
def attend(
    q,
    key,
    value,
    valid,
    first,
    last,
    row,
    queries,
    key_row,
    value_row,
    valid_row,
    valid_column,
    MASKED: tl.constexpr,
    MASKED_ROWS: tl.constexpr,
    MASKED_LOGIT: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Of the keys from `first` to `last`: the highest logit, the sum of weights, and that of weighted values."""
    column = tl.arange(0, BLOCK_K)
    feature = tl.arange(0, WIDTH)
    highest = tl.full((BLOCK_Q,), float("-inf"), tl.float32)
    weights = tl.zeros((BLOCK_Q,), tl.float32)
    total = tl.zeros((BLOCK_Q, WIDTH), tl.float32)
    for start in range(first, last, BLOCK_K):
        at = start + column
        in_keys = at < last
        k = tl.load(key + at[None, :] * key_row + feature[:, None], mask=in_keys[None, :], other=0.0)
        v = tl.load(value + at[:, None] * value_row + feature[None, :], mask=in_keys[:, None], other=0.0)
        logits = product(q, k, PAIR_SCALE, PRECISION)
        if MASKED:
            of_keys = valid + at * valid_column
            if MASKED_ROWS:
                of_rows = of_keys[None, :] + row[:, None] * valid_row
                kept = tl.load(of_rows, mask=(row < queries)[:, None] & in_keys[None, :], other=0) != 0
            else:
                kept = (tl.load(of_keys, mask=in_keys, other=0) != 0)[None, :]
            logits = tl.where(kept, logits, MASKED_LOGIT * LOG2E)
        logits = tl.where(in_keys[None, :], logits, float("-inf"))
        higher = tl.maximum(highest, tl.max(logits, 1))
        shrink = tl.exp2(highest - higher)
        share_of_key = tl.exp2(logits - (higher - SHARE_BITS)[:, None])
        weights = weights * shrink + tl.sum(share_of_key, 1)
        total = total * shrink[:, None] + product(share_of_key, v, 1.0, PRECISION)
        highest = higher
    return highest, weights, total


@triton.jit
def product(a, b, a_scale, PRECISION: tl.constexpr):
    """a b in FP32, with the factors in `PRECISION`.

    "fp32" takes three products of TF32, "pairs" three of FP16, half of the time, of a times a_scale and b times
    PAIR_SCALE, which must be less than 65,504.
    """
    if PRECISION == "pairs":
        a, b = a * a_scale, b * PAIR_SCALE
        a_high, b_high = a.to(tl.float16), b.to(tl.float16)
        a_low = ((a - a_high.to(tl.float32)) * LOW_SCALE).to(tl.float16)
        b_low = ((b - b_high.to(tl.float32)) * LOW_SCALE).to(tl.float16)
        result = tl.dot(a_low, b_high)
        result = tl.dot(a_high, b_low, result) * (1 / LOW_SCALE)
        result = tl.dot(a_high, b_high, result) * (1 / (a_scale * PAIR_SCALE))
    elif PRECISION == "fp32":
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
