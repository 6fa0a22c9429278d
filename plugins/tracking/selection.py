"""Choosing rows with fixed shapes: a count and a validity mask stand in for data-dependent sizes."""

from __future__ import annotations

import torch
from torch import Tensor


def count(mask: Tensor) -> Tensor:
    """Number of True entries of mask [N], int32 [1]."""
    return mask.sum(0, keepdim=True, dtype=torch.int32)


def first_valid(rows: int, valid_count: Tensor) -> Tensor:
    """Bool [rows], True for the first `valid_count` [1] of them."""
    return torch.arange(rows, device=valid_count.device) < valid_count


def take(x: Tensor, rows: Tensor) -> Tensor:
    """Rows of x [N, ...] at the indices [K], as a single ONNX Gather (x[rows] would become GatherND)."""
    return x.index_select(0, rows)


def best_rows(scores: Tensor, valid: Tensor, k: int) -> Tensor:
    """Indices [k] of the highest non-negative scores [N] among the valid rows; invalid rows only come after them."""
    return torch.where(valid, scores, -1.0).topk(k).indices


def valid_first(rows: Tensor, valid: Tensor) -> Tensor:
    """Order [N] that brings valid entries to the front, ascending by `rows`, which holds N unique indices below 2^23.

    The keys are unique, so that the order does not depend on how a runtime's TopK breaks ties.
    """
    key = torch.where(valid, rows, rows + 2**23).float()
    return key.topk(len(rows), largest=False).indices


def where_valid(valid: Tensor, x: Tensor, otherwise: float = 0) -> Tensor:
    """Values of x [N, ...] in the valid rows, the constant elsewhere, whatever x holds there."""
    return torch.where(valid.view(-1, *(1,) * (x.ndim - 1)), x, otherwise)
