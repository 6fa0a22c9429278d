"""Camera pictures as the network's input, for a session that normalises, resizes and pads them itself."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ImageConfig
from toolkit.specs import TensorSpec

IMAGE = "image"
"""The frame input that is made of the pictures."""
PICTURES = "pictures"
"""What stands in its place in a frame whose pictures are given as they are."""


def pictures_spec(config: ImageConfig) -> TensorSpec:
    """The pictures of one frame as a tensor."""
    return TensorSpec(
        PICTURES,
        ("cameras", config.source_height, config.source_width, 3),
        "uint8",
        "camera pictures at full size, RGB, in the camera order of the config",
    )


class PictureMemory(Protocol):
    """Where a session wants the pictures of one frame, so that nobody needs to copy them."""

    @property
    def array(self) -> NDArray[np.uint8]:
        """[cameras, source height, source width, 3]."""

    def filled(self, camera: int) -> None:
        """The picture of this camera is in its place: the session need not wait for the others to take it.

        Not all are told of: what the session was not told of it takes with the frame's inputs.
        """
