"""What the bridge asks of the process and the model, and how it refuses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

THIRD_PARTY = "third_party.uniad_mmdet3d"
"""Where the tree of UniAD-tiny keeps its part of mmdet3d."""


class BridgeError(RuntimeError):
    """What keeps the bridge from recording, and what to do about it."""


def unwrapped(model: Any) -> Any:
    """The model inside of what makes it parallel. Raises BridgeError if there is no UniAD."""
    inner = model
    while hasattr(inner, "module") and not hasattr(inner, "simple_test_track"):
        inner = inner.module
    if not hasattr(inner, "simple_test_track"):
        raise BridgeError(
            f"{type(model).__name__} has no method simple_test_track; give the model that build_model made"
        )
    return inner


def half_precision(model: Any) -> bool:
    """Whether mmcv's wrap_fp16_model has been there."""
    return any(getattr(module, "fp16_enabled", False) for module in model.modules())


def require_folder(path: str) -> None:
    """Raise BridgeError if there is no folder for an output, before the work begins."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise BridgeError(f"cannot write {path}: {folder} is no folder")


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[Any]:
    """A file to write in binary, which takes its name at the end of the block."""
    partial = f"{path}.{os.getpid()}.partial"
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def exact_arithmetic(tf32: bool) -> None:
    torch.backends.cudnn.benchmark = False
    if not tf32:
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


def rank() -> int:
    return torch.distributed.get_rank() if _distributed() else 0


def world() -> int:
    return torch.distributed.get_world_size() if _distributed() else 1


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
