"""In what prepared pictures differ from others of the same frame: order, colours, augmentation, resize, or content."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from toolkit.config.model import ImageConfig

Pictures = NDArray[np.float64]
"""[cameras, 3, height, width], without padding."""
NEAR = 1e-2
"""Relative error within which pictures count as the same."""
NEAR_BLOCKS, BLOCK = 5e-2, 5
"""The same once fine detail is averaged out, over so many pixels each way."""
AUGMENTED = "augmentation is on in the dump"
OTHER_CHANNELS = "its channels come in the other order, RGB or BGR"


def picture_difference(dumped: np.ndarray, prepared: np.ndarray, image: ImageConfig) -> str:
    """The first explanation after which pictures [cameras, 3, height, width] are the same, in words."""
    height, width = image.resized
    there, here = (a[:, :, :height, :width].astype(np.float64) for a in (dumped, prepared))
    return next(reason for reason in _explanations(there, here, image) if reason is not None)


def _explanations(there: Pictures, here: Pictures, image: ImageConfig) -> Iterator[str | None]:
    """In words, None where an explanation is none; from the plainest to the vaguest."""
    reversed_channels = here[:, ::-1]
    yield _if_near(there, here, "in the padding alone")
    yield _order(there, here, image)
    yield _if_near(there, reversed_channels, f"in colours: {OTHER_CHANNELS}")
    yield _if_near(there, _per_channel(there, here), "in the normalisation: its mean or std is another")
    turned = _per_channel(there, reversed_channels)
    yield _if_near(there, turned, f"in colours: {OTHER_CHANNELS}, of another mean or std")
    yield _if_near(there, here[..., ::-1], f"by mirroring: {AUGMENTED}")
    yield _if_near(there, _per_picture(there, here), f"in brightness or contrast from picture to picture: {AUGMENTED}")
    fine = _error(_blocks(there), _blocks(here)) <= NEAR_BLOCKS
    yield "in fine detail alone: the resize interpolates otherwise" if fine else None
    yield "in content: other frames, another crop or scale, or augmentation in the dump"


def _if_near(there: Pictures, here: Pictures, reason: str) -> str | None:
    return reason if _error(there, here) <= NEAR else None


def _order(there: Pictures, here: Pictures, image: ImageConfig) -> str | None:
    """Which camera each dumped picture is of, if each is of one, and in another order."""
    found = []
    for picture in there:
        errors = [_error(picture, other) for other in here]
        if min(errors) > NEAR:
            return None
        found.append(image.cameras[int(np.argmin(errors))])
    return f"in the order of the cameras: the dump has {', '.join(found)}" if found != list(image.cameras) else None


def _per_channel(there: Pictures, here: Pictures) -> Pictures:
    """`here`, each channel of all pictures scaled and shifted to come closest to `there`."""
    return np.stack([_line(a, b) for a, b in zip(there.swapaxes(0, 1), here.swapaxes(0, 1), strict=True)], axis=1)


def _per_picture(there: Pictures, here: Pictures) -> Pictures:
    """`here`, each channel of each picture scaled and shifted by itself."""
    return np.stack([
        np.stack([_line(a, b) for a, b in zip(one, other, strict=True)]) for one, other in zip(there, here, strict=True)
    ])  # fmt: skip


def _line(there: Pictures, here: Pictures) -> Pictures:
    centred, spread = here - here.mean(), float(here.var())
    slope = float(((there - there.mean()) * centred).mean()) / spread if spread else 0.0
    return np.asarray(there.mean() + slope * centred)


def _blocks(pictures: Pictures) -> Pictures:
    """Means over blocks of pixels."""
    cameras, channels, height, width = pictures.shape
    rows, columns = max(height // BLOCK, 1), max(width // BLOCK, 1)
    cut = pictures[:, :, : rows * BLOCK, : columns * BLOCK]
    return np.asarray(cut.reshape(cameras, channels, rows, -1, columns, cut.shape[3] // columns).mean((3, 5)))


def _error(there: Pictures, here: Pictures) -> float:
    return float(np.linalg.norm(there - here) / (np.linalg.norm(there) or 1))
