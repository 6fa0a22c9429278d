"""What every session offers: one frame in named tensors, in its own array type, so that state need not leave it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np


class Session(Protocol):
    """Runs one frame of a converted network.

    `run` takes and returns tensors of the session's own kind (numpy arrays, device tensors …) by name. Results may be
    fed back as state without a copy; `upload` and `download` convert from and to numpy. `finite` looks at tensors where
    they are.
    """

    name: str

    def upload(self, array: np.ndarray) -> Any:
        """A numpy array as a tensor of this session."""

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of one frame."""

    def download(self, tensor: Any) -> np.ndarray:
        """A tensor of this session as a numpy array."""

    def finite(self, tensors: Iterable[Any]) -> bool:
        """Whether these tensors hold neither NaN nor infinity."""
