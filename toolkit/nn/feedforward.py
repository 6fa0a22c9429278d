"""Feed-forward blocks and small MLPs in the official checkpoint's layouts."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from toolkit.nn.dropout import Dropout


class FeedForward(nn.Module):
    """Linear, ReLU, Linear, plus the input (keys ``layers.0.0``, ``layers.1``)."""

    def __init__(self, dims: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        inner = nn.Sequential(nn.Linear(dims, hidden), nn.ReLU(), Dropout(dropout))
        self.layers = nn.Sequential(inner, nn.Linear(hidden, dims), Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLU between them; keys ``0``, ``2``, ``4`` …"""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def normed_mlp(dims: int, outputs: int, hidden_layers: int = 2) -> nn.Sequential:
    """(Linear, LayerNorm, ReLU) repeated, then Linear; keys ``0``, ``1``, ``3``, ``4``, ``6``."""
    layers: list[nn.Module] = []
    for _ in range(hidden_layers):
        layers += [nn.Linear(dims, dims), nn.LayerNorm(dims), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(dims, outputs))
