"""Writing npz files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
from numpy.typing import NDArray


def write_npz(path: Path, arrays: Iterable[tuple[str, NDArray[Any]]], *, compressed: bool = False) -> None:
    """Write what `numpy.load` reads, one array at a time.

    Unlike `numpy.savez`, it ends with the OSError alone where the disk is full.
    """
    with ZipFile(path, "w", ZIP_DEFLATED if compressed else ZIP_STORED) as archive:
        for name, array in arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
