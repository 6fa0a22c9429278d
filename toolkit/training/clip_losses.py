"""What a network loses on one clip, and by how much each parameter would change that: for comparing trainings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import InputError
from toolkit.network import Network
from toolkit.text import one_line
from toolkit.training.clip import Clip
from toolkit.training.clip_model import ClipModel, total, without_randomness
from toolkit.training.spec import Option


@contextmanager
def default_type(dtype: torch.dtype) -> Iterator[None]:
    """Networks that are built in here are of this type, constants included."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def clip_losses(
    network: Network, clip: Clip, stage: int, options: Mapping[str, Mapping[str, Option]]
) -> dict[str, Any]:
    """All losses and figures, their total, and L2 norms of its gradients by parameter (None: it has none).

    Nothing in it is random. What is not finite is None. Raises InputError for a clip that does not fit the network.
    """
    model = ClipModel(network, stage, without_randomness(network, options))
    with torch.enable_grad():
        losses = _losses(model, clip)
        summed = total(losses)
        summed.backward()
    norms = {name: None if gradient is None else gradient.norm().item() for name, gradient in gradients(network)}
    return {
        "stage": stage,
        "dtype": str(summed.dtype).removeprefix("torch."),
        "total": _finite(summed.item()),
        "losses": {name: _finite(value.mean().item()) for name, value in losses.items()},
        "grad_norm": {name: _finite(norm) for name, norm in norms.items()},
        "total_grad_norm": _finite(math.hypot(*(norm for norm in norms.values() if norm is not None))),
    }


def gradients(network: Network) -> Iterator[tuple[str, Tensor | None]]:
    """The gradient of every parameter that is trained, by its official name."""
    for part in network.parts.values():
        for name, parameter in part.named_parameters():
            if parameter.requires_grad:
                yield name, parameter.grad


def _losses(model: ClipModel, clip: Clip) -> dict[str, Tensor]:
    try:
        losses: dict[str, Tensor] = model(clip)
    except InputError:
        raise
    # Ground truth of any shape may be given; what its submodules make of it can fail in any way.
    except Exception as error:
        raise InputError(
            f"clip {clip.name} does not fit to the network: {one_line(error):.200}; compare its arrays with those in "
            "docs/training.md"
        ) from error
    return losses


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
