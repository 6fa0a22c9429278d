"""Multi-head attention with the parameter layout of `torch.nn.MultiheadAttention`, and masks of fixed shape."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from toolkit.nn.dropout import Dropout

MASKED_LOGIT = -1.0e4
"""Logit of a masked key: its weight underflows to exactly 0 in FP32 and FP16, and a row without any
valid key stays finite (a plain average) instead of NaN."""


def mask_logits(logits: Tensor, valid: Tensor | None) -> Tensor:
    """Replace logits where `valid` (bool, broadcastable) is False."""
    return logits if valid is None else torch.where(valid, logits, MASKED_LOGIT)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[..., N, C] -> [..., heads, N, C/heads]."""
    heads_last: Tensor = x.unflatten(-1, (heads, -1))
    return heads_last.transpose(-2, -3)


def merge_heads(x: Tensor) -> Tensor:
    """[..., heads, N, C/heads] -> [..., N, C]."""
    return x.transpose(-2, -3).flatten(-2)


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention on [..., N, C] tensors (Vaswani et al. 2017, section 3.2.2).

    State-dict keys equal `torch.nn.MultiheadAttention`'s. `valid` is a bool mask, True where a key may be
    attended, broadcastable to [..., heads, queries, keys]. `dropout` is of the attention weights.
    """

    def __init__(self, dims: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dims, dims))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dims))
        self.out_proj = nn.Linear(dims, dims)
        self.dropout = Dropout(dropout)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, valid: Tensor | None = None) -> Tensor:
        project = self._project_at_once if self.training else self._project_each
        q, k, v = (split_heads(x, self.heads) for x in project((query, key, value)))
        logits = mask_logits((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), valid)
        out: Tensor = self.out_proj(merge_heads(self.dropout(logits.softmax(-1)) @ v))
        return out

    def _project_each(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Query, key and value, each by its rows of the weights, as a graph shows them."""
        dims = self.in_proj_weight.shape[1]
        rows = [slice(part * dims, (part + 1) * dims) for part in range(3)]
        pairs = zip(inputs, rows, strict=True)
        return [nn.functional.linear(x, self.in_proj_weight[part], self.in_proj_bias[part]) for x, part in pairs]

    def _project_at_once(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The same in few operators, which training waits for: what is of one input in a row is projected at once.

        And gradients of split weights are put together by one operator, where those of slices are padded and added.
        """
        dims = self.in_proj_weight.shape[1]
        shared: list[list[Tensor]] = []
        for x in inputs:
            if shared and x is shared[-1][0]:
                shared[-1].append(x)
            else:
                shared.append([x])
        sizes = [dims * len(same) for same in shared]
        weights, biases = self.in_proj_weight.split(sizes), self.in_proj_bias.split(sizes)
        projected: list[Tensor] = []
        for (x, *_), weight, bias in zip(shared, weights, biases, strict=True):
            projected += nn.functional.linear(x, weight, bias).split(dims, -1)
        return projected


class ResidualAttention(nn.Module):
    """Attention with positional queries and keys, values without position, plus the query (key prefix ``attn``)."""

    def __init__(self, dims: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attn = MultiheadAttention(dims, heads, dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        *,
        query_position: Tensor | None = None,
        key_position: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """`query` [..., Q, C]; `key` [..., K, C], by default the query itself with its own position."""
        if key is None:
            key, key_position = query, query_position
        attended = self.attn(add(query, query_position), add(key, key_position), key, valid)
        out: Tensor = query + self.dropout(attended)
        return out


def add(x: Tensor, position: Tensor | None) -> Tensor:
    """x with its positional embedding, if it has one."""
    return x if position is None else x + position
