"""What several processes of a test run share is made once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.session_cache import SessionCache


def test_whoever_comes_later_waits_for_the_first(tmp_path: Path) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "half").write_text("")
        (folder / "whole").write_text("")

    def files(_: int) -> list[str]:
        return sorted(path.name for path in SessionCache(tmp_path).once("model", make).iterdir())

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(files, range(8))) == [["half", "whole"]] * 8
    assert len(made) == 1


def test_what_failed_is_made_anew(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise RuntimeError("no space left")

    cache = SessionCache(tmp_path)
    with pytest.raises(RuntimeError, match="no space left"):
        cache.once("model", fail)
    assert list(cache.once("model", lambda folder: (folder / "whole").write_text("")).iterdir()) == [
        tmp_path / "model" / "whole"
    ]
