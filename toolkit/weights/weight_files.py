"""Writing weights: put together in memory and written by ourselves.

So a full disk is an OSError, as elsewhere, and a killed command leaves no temporary file of a library behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors that share no memory, each with its dtype and shape."""
    path.write_bytes(save(dict(tensors), None if metadata is None else dict(metadata)))


def write_pth(path: Path, content: Mapping[str, object]) -> None:
    """Write what `torch.load` reads."""
    buffer = BytesIO()
    torch.save(dict(content), buffer)
    path.write_bytes(buffer.getbuffer())
