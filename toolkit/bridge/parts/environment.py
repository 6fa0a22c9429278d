"""What the bridge asks of the process and the model, and how it refuses."""

from __future__ import annotations

import contextlib
import os
import uuid
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


def half_precision(model: Any) -> str | None:
    """What makes the model one in half precision, and how to leave it out; None if it is none."""
    if any(getattr(module, "fp16_enabled", False) for module in model.modules()):
        return "the model is wrapped for FP16: leave out wrap_fp16_model"
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.element_size() < 4:
            return f"the model is in half precision, {name} is of {parameter.dtype}: leave out half() and the like"
    return None


def require_new(path: str) -> None:
    """Raise BridgeError if an output cannot take its name, before the work begins: nothing that is there is replaced.

    So no output is one of the inputs either.
    """
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise BridgeError(f"cannot write {path}: {folder} is no folder")
    if os.path.isdir(path):
        raise BridgeError(f"cannot write {path}: it is a folder; give a file")
    if os.path.lexists(path):
        raise BridgeError(f"{path} already exists; choose another output")


def partial_name(path: str) -> str:
    """Where an output grows, beside the name that it takes at the end; no two are the same."""
    return f"{path}.{uuid.uuid4().hex}.partial"


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[Any]:
    """A file to write in binary, which takes its name at the end of the block. Raises BridgeError if it cannot."""
    partial = partial_name(path)
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        raise BridgeError(f"cannot write {path}: {error.strerror}") from error
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
