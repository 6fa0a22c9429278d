"""Copies of what a model holds, as arrays of a dump."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def single(value: Any) -> Any:
    """What lies in lists of one entry, and in containers of mmcv."""
    while True:
        if isinstance(value, (list, tuple)) and len(value) == 1:
            value = value[0]
        elif type(value).__name__ == "DataContainer":
            value = value.data
        else:
            return value


def copied(value: Any) -> np.ndarray:
    """A copy of a tensor, of boxes or of numbers, alone or in lists of one entry."""
    value = single(value)
    value = getattr(value, "tensor", value)
    if not torch.is_tensor(value):
        return np.array(value)
    tensor = value.detach().cpu().clone()
    # NumPy has no bfloat16.
    return (tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor).numpy()


def narrowed(array: np.ndarray) -> np.ndarray:
    """As float32 or int32."""
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int32)


def shaped(value: Any, rank: int) -> np.ndarray:
    """With axes of length 1 before it, or without, so that it has `rank`."""
    array = copied(value)
    shape = list(array.shape)
    while len(shape) > rank and shape[0] == 1:
        del shape[0]
    return array.reshape([1] * (rank - len(shape)) + shape)
