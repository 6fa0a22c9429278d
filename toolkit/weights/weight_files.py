"""Writing weights so that a full disk is an OSError, as elsewhere; the libraries have their own kinds of error."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors that share no memory, each with its dtype and shape."""
    try:
        save_file(dict(tensors), path, None if metadata is None else dict(metadata))
    except SafetensorError as error:
        raise OSError(str(error)) from error


def write_pth(path: Path, content: Mapping[str, object]) -> None:
    """Write what `torch.load` reads; it is put together in memory."""
    buffer = BytesIO()
    torch.save(dict(content), buffer)
    path.write_bytes(buffer.getbuffer())
