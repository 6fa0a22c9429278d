"""Arrays on disk."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from toolkit.storage.npz import write_npz
from toolkit.weights.weight_files import write_pth, write_safetensors


@pytest.mark.parametrize("compressed", [False, True])
def test_numpy_reads_it(compressed: bool, tmp_path: Path) -> None:
    arrays = {"f0.in.a": np.arange(6, dtype=np.float32).reshape(2, 3), "none": np.zeros((0, 2), np.bool_)}
    write_npz(tmp_path / "a.npz", arrays.items(), compressed=compressed)
    with np.load(tmp_path / "a.npz") as read:
        assert {name: read[name].dtype for name in read} == {name: array.dtype for name, array in arrays.items()}
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file becomes larger than 50,000 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_disk")
@pytest.mark.filterwarnings("error")
class TestFullDisk:
    """It is an OSError, and nothing is said afterwards when objects are collected."""

    def test_npz(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="File too large"):
            write_npz(tmp_path / "a.npz", [("a", np.zeros(100_000))])

    def test_safetensors(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="File too large"):
            write_safetensors(tmp_path / "a.safetensors", {"a": torch.zeros(100_000)})

    def test_pth(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="File too large"):
            write_pth(tmp_path / "a.pth", {"a": torch.zeros(100_000)})
