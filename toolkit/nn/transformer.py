"""Post-norm transformer layers in the two parameter layouts of the official checkpoint."""

from __future__ import annotations

from torch import Tensor, nn

from toolkit.nn.attention import MultiheadAttention
from toolkit.nn.dropout import Dropout


class TransformerEncoderLayer(nn.Module):
    """`torch.nn.TransformerEncoderLayer`'s post-norm ReLU layer, same keys, on [..., N, C]."""

    def __init__(self, dims: int, heads: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(dims, heads, dropout)
        self.linear1 = nn.Linear(dims, hidden)
        self.linear2 = nn.Linear(hidden, dims)
        self.norm1 = nn.LayerNorm(dims)
        self.norm2 = nn.LayerNorm(dims)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.self_attn(x, x, x)))
        out: Tensor = self.norm2(x + self.dropout(self.linear2(self.dropout(self.linear1(x).relu()))))
        return out


class TransformerDecoderLayer(nn.Module):
    """`torch.nn.TransformerDecoderLayer`'s post-norm ReLU layer, same keys, on [..., N, C].

    The memory is shared by all leading dimensions of the queries: its keys and values are projected once
    and all queries attend to it in a single matrix product.
    """

    def __init__(self, dims: int, heads: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(dims, heads, dropout)
        self.multihead_attn = MultiheadAttention(dims, heads, dropout)
        self.linear1 = nn.Linear(dims, hidden)
        self.linear2 = nn.Linear(hidden, dims)
        self.norm1 = nn.LayerNorm(dims)
        self.norm2 = nn.LayerNorm(dims)
        self.norm3 = nn.LayerNorm(dims)
        self.dropout = Dropout(dropout)

    def forward(self, query: Tensor, memory: Tensor, valid: Tensor | None = None) -> Tensor:
        """query [..., N, C], memory [M, C] as key and value, valid: bool over the M keys."""
        query = self.norm1(query + self.dropout(self.self_attn(query, query, query)))
        flat = query.reshape(-1, query.shape[-1])
        flat = self.norm2(flat + self.dropout(self.multihead_attn(flat, memory, memory, valid)))
        out: Tensor = self.norm3(flat + self.dropout(self.linear2(self.dropout(self.linear1(flat).relu()))))
        return out.view(query.shape)
