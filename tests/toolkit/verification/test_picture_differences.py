"""In what pictures differ that two environments prepared of one frame."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from toolkit.config.model import CAMERAS, ImageConfig
from toolkit.verification.picture_differences import OTHER_CHANNELS, picture_difference

IMAGE = ImageConfig(source_width=320, source_height=240, scale=0.25)
"""60 x 80 pixels, padded to 64 x 96."""
Pictures = np.ndarray
Change = Callable[[Pictures], Pictures]


@pytest.fixture(scope="module")
def prepared() -> Pictures:
    """Smooth noise, another for each camera."""
    return resized(cv2.INTER_LINEAR)


def resized(interpolation: int) -> Pictures:
    """Of the same pictures, normalised and padded."""
    random, pictures = np.random.default_rng(0), np.zeros((6, 3, *IMAGE.padded), np.float32)
    for picture in pictures:
        for channel in picture:
            coarse = random.standard_normal((30, 40), np.float32)
            source = np.asarray(cv2.resize(coarse, (320, 240)), np.float32)
            source += random.standard_normal(source.shape, np.float32) * 0.05
            channel[:60, :80] = cv2.resize(source, (80, 60), interpolation=interpolation)
    return pictures


def inside(change: Change) -> Change:
    """The change, which leaves the padding as it is."""

    def changed(pictures: Pictures) -> Pictures:
        result = pictures.copy()
        result[:, :, :60, :80] = change(pictures[:, :, :60, :80])
        return result

    return changed


FACTORS = np.linspace(0.8, 1.2, 18, dtype=np.float32).reshape(6, 3, 1, 1)
SCALES = np.array([0.5, 1, 2], np.float32).reshape(3, 1, 1)
CHANGES: dict[str, tuple[Change, str]] = {
    "padding": (lambda a: np.where(np.arange(96) < 80, a, 1), "in the padding alone"),
    "cameras": (
        lambda a: a[[1, 0, 2, 3, 4, 5]],
        f"in the order of the cameras: the dump has CAM_FRONT_RIGHT, CAM_FRONT, {', '.join(CAMERAS[2:])}",
    ),
    "channels": (lambda a: a[:, ::-1], f"in colours: {OTHER_CHANNELS}"),
    "mean and std": (inside(lambda a: a * SCALES + 0.3), "in the normalisation: its mean or std is another"),
    "UniAD-base": (inside(lambda a: a[:, ::-1] * 57 + 3), f"in colours: {OTHER_CHANNELS}, of another mean or std"),
    "mirrored": (inside(lambda a: a[..., ::-1]), "by mirroring: augmentation is on in the dump"),
    "photometric": (
        inside(lambda a: a * FACTORS + FACTORS),
        "in brightness or contrast from picture to picture: augmentation is on in the dump",
    ),
    "resize": (lambda a: resized(cv2.INTER_AREA), "in fine detail alone: the resize interpolates otherwise"),
    "content": (lambda a: np.roll(a, 20, 3), "in content: other frames, another crop or scale, or augmentation in the"),
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
def test_difference_in_words(change: Change, reason: str, prepared: Pictures) -> None:
    assert picture_difference(change(prepared), prepared, IMAGE).startswith(reason)
