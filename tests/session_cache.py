"""What is made once per test run, whichever of its processes asks first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock


@dataclass(frozen=True)
class SessionCache:
    """Folders by name, in a folder that all processes of one test run share."""

    folder: Path

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """The folder of this name, filled by `make` if no process has done so; only to be read.

        A process that comes while another makes it waits. What a failing `make` left is thrown away, so that the next
        process starts anew.
        """
        folder = self.folder / name
        with FileLock(self.folder / f"{name}.lock"):
            if not folder.exists():
                making = self.folder / f"{name}.partial"
                shutil.rmtree(making, ignore_errors=True)
                making.mkdir()
                make(making)
                making.rename(folder)
        return folder
