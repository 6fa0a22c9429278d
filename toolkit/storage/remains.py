"""Names of what is not finished yet, and removing what killed processes left under them."""

from __future__ import annotations

import os
import platform
import re
import shutil
from contextlib import suppress
from pathlib import Path

from toolkit.storage.moves import move_new


def partial_path(path: Path, suffix: str = "") -> Path:
    """The name, beside it, of what this process has not finished of an output."""
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.partial{suffix}")


def remove_remains(path: Path, suffix: str = "") -> None:
    """Remove what killed processes of this machine left of an output.

    If one was killed between putting the former output aside and the new one in its place, the former one comes back.
    """
    name = re.compile(
        re.escape(f".{path.name}.{platform.node()}-") + rf"(\d{{1,9}})\.partial({re.escape(suffix)})?(\.old)?"
    )
    with suppress(OSError):
        for found in path.parent.iterdir():
            if not (match := name.fullmatch(found.name)) or is_running(int(match[1])):
                continue
            if match[3] and not os.path.lexists(path):
                move_new(found, path)
            elif found.is_dir() and not found.is_symlink():
                shutil.rmtree(found, ignore_errors=True)
            else:
                found.unlink()


def is_running(process: int) -> bool:
    """Whether another process has this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()
