"""Losses of one clip beside those of another training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from toolkit.cli.train_clip import compare_and_print
from toolkit.errors import CheckFailed, InputError
from toolkit.training.loss_comparison import beyond, compare_losses

FOUND: dict[str, Any] = {"dtype": "float32", "total": 3.0, "losses": {"a.loss": 1.0, "b.loss": 2.0, "b.rate": 0.5}}


def write(path: Path, **losses: float | str | None) -> Path:
    path.write_text(json.dumps({"losses": losses}))
    return path


def test_equal_within_rounding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = write(tmp_path / "l.json", **{"a.loss": 1.0003, "b.loss": 2.0, "b.rate": 0.5, "loss": 3.0003})
    compare_and_print(FOUND, theirs)
    assert "all 4 losses are those of" in capsys.readouterr().out


def test_an_entry_that_differs(tmp_path: Path) -> None:
    theirs = write(tmp_path / "l.json", **{"a.loss": 1.001, "b.loss": 2.0, "b.rate": 0.5})
    message = r"1 of 3 losses differ from .*l.json by more than 4e-04 of them, the most a.loss: 1 instead of 1.001"
    with pytest.raises(CheckFailed, match=message):
        compare_and_print(FOUND, theirs)


def test_the_bound_follows_the_type(tmp_path: Path) -> None:
    theirs = write(tmp_path / "l.json", **{"a.loss": 1.00001, "b.loss": 2.0, "b.rate": 0.5})
    compared = compare_losses(FOUND, theirs)
    assert beyond(compared, "float32") == []
    assert [each.name for each in beyond(compared, "float64")] == ["a.loss"]


def test_entries_that_one_side_lacks(tmp_path: Path) -> None:
    """Count as differences: a loss that nobody trains on is one."""
    theirs = write(tmp_path / "l.json", **{"a.loss": 1.0, "b.loss": 2.0, "c.loss": 0.0})
    missing = beyond(compare_losses(FOUND, theirs), "float32")
    assert {(each.name, each.ours, each.theirs) for each in missing} == {("b.rate", 0.5, None), ("c.loss", None, 0.0)}


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    theirs = write(tmp_path / "l.json", **{"a.loss": math.nan, "b.loss": 2.0, "b.rate": 0.5})
    assert [each.name for each in beyond(compare_losses(FOUND, theirs), "float32")] == ["a.loss"]


@pytest.mark.parametrize("text", ["[]", "{}", '{"losses": {}}', '{"losses": {"a": "b"}}', "nonsense"])
def test_files_without_losses(tmp_path: Path, text: str) -> None:
    path = tmp_path / "l.json"
    path.write_text(text)
    with pytest.raises(InputError, match="give a file of the bridge's dump_losses"):
        compare_losses(FOUND, path)
