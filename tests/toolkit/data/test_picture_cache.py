"""Decoded pictures in a folder: the same as without, whoever writes them, and never more than there may be."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest

from toolkit.config.model import ImageConfig
from toolkit.data.picture_cache import CacheFolder, PictureCache
from toolkit.data.preprocess import load_image
from toolkit.errors import InputError

IMAGE = replace(ImageConfig(), source_width=48, source_height=32)
EACH = 32 + 48 * 32 * 3


def picture(path: Path, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 48, 3), np.uint8)
    cv2.imwrite(str(path), pixels)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return [picture(tmp_path / f"{number}.jpg", number) for number in range(3)]


def opened(tmp_path: Path, pictures: list[Path], most: int = 10**9) -> PictureCache:
    return CacheFolder(tmp_path / "cache", most).of(pictures, IMAGE)


def test_pictures_are_those_without_a_cache(pictures: list[Path], tmp_path: Path) -> None:
    cache = opened(tmp_path, pictures)
    for _ in range(2):
        for path in pictures:
            assert np.array_equal(cache.load(path), load_image(path, IMAGE))
    assert sorted(file.stat().st_size for file in cache.folder.iterdir()) == [EACH] * 3


def test_a_kept_picture_is_not_decoded_again(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = opened(tmp_path, pictures).load(pictures[0])
    monkeypatch.setattr("toolkit.data.picture_cache.load_image", None)
    assert np.array_equal(opened(tmp_path, pictures).load(pictures[0]), expected)


def test_a_picture_that_has_changed_is_decoded_again(pictures: list[Path], tmp_path: Path) -> None:
    cache = opened(tmp_path, pictures)
    before = cache.load(pictures[0])
    picture(pictures[0], 7)
    os.utime(pictures[0], ns=(1, 1))
    assert not np.array_equal(cache.load(pictures[0]), before)
    assert np.array_equal(cache.load(pictures[0]), load_image(pictures[0], IMAGE))
    assert len(list(cache.folder.iterdir())) == 1


def test_a_model_of_another_size_does_not_take_it(pictures: list[Path], tmp_path: Path) -> None:
    """Though it has as many pixels: it is told that the picture does not fit, as it is without a cache."""
    cache = opened(tmp_path, pictures)
    cache.load(pictures[0])
    other = replace(cache, image=replace(IMAGE, source_width=32, source_height=48))
    with pytest.raises(InputError, match="found 48x32"):
        other.load(pictures[0])


@pytest.mark.parametrize("content", [b"", b"x", b"x" * EACH], ids=["empty", "cut", "other"])
def test_a_damaged_file_is_written_again(content: bytes, pictures: list[Path], tmp_path: Path) -> None:
    cache = opened(tmp_path, pictures)
    expected = cache.load(pictures[0])
    (file,) = cache.folder.iterdir()
    file.write_bytes(content)
    assert np.array_equal(cache.load(pictures[0]), expected)
    assert file.stat().st_size == EACH


def test_there_are_never_more_than_there_may_be(pictures: list[Path], tmp_path: Path) -> None:
    """What the folder holds of other data counts, too; what it holds of this does not count twice."""
    for _ in range(2):
        cache = opened(tmp_path, [*pictures, *pictures], 2 * EACH + 1)
        assert (len(cache.names), cache.count) == (2, 3)
        assert all(np.array_equal(cache.load(path), load_image(path, IMAGE)) for path in pictures)
        assert len(list(cache.folder.iterdir())) == 2
    others = [picture(tmp_path / "other.jpg", 9), *pictures]
    assert len(opened(tmp_path, others[:1], 2 * EACH).names) == 0
    assert len(opened(tmp_path, others, 3 * EACH).names) == 3


def test_processes_share_a_folder(pictures: list[Path], tmp_path: Path) -> None:
    cache = opened(tmp_path, pictures)
    with ProcessPoolExecutor(4, get_context("fork")) as pool:
        found = list(pool.map(cache.load, pictures * 20))
    for path, pixels in zip(pictures * 20, found, strict=True):
        assert np.array_equal(pixels, load_image(path, IMAGE))
    assert len(list(cache.folder.iterdir())) == 3


def test_what_killed_processes_left_goes_when_the_folder_is_opened(pictures: list[Path], tmp_path: Path) -> None:
    cache = opened(tmp_path, pictures)
    cache.load(pictures[0])
    (file,) = cache.folder.iterdir()
    node = os.uname().nodename
    remains = file.with_name(f".{file.name}.{node}-999999999.partial.rgb")
    remains.write_bytes(b"x")
    opened(tmp_path, pictures)
    assert list(cache.folder.iterdir()) == [file]


def test_what_is_gone_when_it_is_looked_at_is_no_picture(pictures: list[Path], tmp_path: Path) -> None:
    """Such as what another process has just given its final name, as which a link to nothing stands here."""
    cache = opened(tmp_path, pictures)
    (cache.folder / ".0.rgb.node-1.partial.rgb").symlink_to("gone")
    assert len(opened(tmp_path, pictures, EACH).names) == 1


def test_a_folder_that_cannot_be_written_keeps_nothing(pictures: list[Path], tmp_path: Path) -> None:
    cache = opened(tmp_path, pictures)
    cache.folder.rmdir()
    cache.folder.write_text("a file")
    assert np.array_equal(cache.load(pictures[0]), load_image(pictures[0], IMAGE))
    with pytest.raises(InputError, match="cannot write"):
        opened(tmp_path, pictures)


def test_a_picture_that_is_not_there_is_named(pictures: list[Path], tmp_path: Path) -> None:
    cache = opened(tmp_path, pictures)
    pictures[1].unlink()
    with pytest.raises(InputError, match=r"1\.jpg"):
        cache.load(pictures[1])
