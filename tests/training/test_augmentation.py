"""What training changes at random about pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plugins.image_encoder.grid_mask import grid_mask
from toolkit.training.augmentation import distort

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def draws(count: int) -> list[np.ndarray]:
    return [distort(PICTURE, np.random.default_rng(seed)) for seed in range(count)]


def test_the_same_draws_give_the_same_picture() -> None:
    np.testing.assert_array_equal(
        distort(PICTURE, np.random.default_rng(3)), distort(PICTURE, np.random.default_rng(3))
    )


def test_pictures_stay_what_they_are() -> None:
    """Of their size, as FP32, finite, and the picture that was given is not changed."""
    before = PICTURE.copy()
    for changed in draws(50):
        assert changed.shape == PICTURE.shape
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
    np.testing.assert_array_equal(PICTURE, before)


def test_grey_shows_brightness_and_contrast_alone() -> None:
    """It has neither saturation, hue nor an order of colours: by at most 32, and by factors of 0.5 to 1.5."""
    grey = np.full((2, 2, 3), 100, np.uint8)
    values = np.array([distort(grey, np.random.default_rng(seed)) for seed in range(400)])
    assert np.ptp(values, axis=(1, 2, 3)).max() < 1e-3
    levels = values[:, 0, 0, 0]
    assert (100 - 32) * 0.5 <= levels.min() < 60
    assert 150 < levels.max() <= (100 + 32) * 1.5
    unchanged = np.isclose(levels, 100).mean()
    assert unchanged == pytest.approx(1 / 4, abs=5 * (3 / 16 / 400) ** 0.5)  # neither of two, each with probability 1/2


def test_colours_change_places() -> None:
    """In half of the pictures, into one of six orders: pure red is red in the others."""
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    strongest = [int(distort(red, np.random.default_rng(seed))[0, 0].argmax()) for seed in range(600)]
    assert strongest.count(0) / 600 == pytest.approx(1 / 2 + 1 / 2 / 3, abs=5 * (2 / 9 / 600) ** 0.5)


def test_a_grid_hides_squares() -> None:
    """Alike in all pictures; what is seen is as it was, the rest is 0, and neither is all."""
    torch.manual_seed(0)
    image = torch.rand(6, 3, 32, 52) + 1
    for _ in range(20):
        masked = grid_mask(image)
        seen = masked != 0
        assert torch.equal(masked[seen], image[seen])
        assert (seen == seen[:1, :1]).all()
        assert 0 < seen.float().mean() < 1
