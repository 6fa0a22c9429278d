"""The file beside an engine: what it keeps, how damage shows, and what `inspect` makes of it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.tensorrt.sidecars import sidecar
from toolkit.cli.main import run
from toolkit.engines.tensorrt.sidecar import Sidecar
from toolkit.errors import InputError


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """An engine with its sidecar."""
    path = tmp_path / "m.engine"
    path.write_bytes(b"engine")
    sidecar().write(path)
    return path


def test_what_is_written_is_read(engine: Path) -> None:
    assert Sidecar.read(engine) == sidecar()
    sidecar().require_engine(engine)


def test_field_that_is_missing(engine: Path) -> None:
    values = asdict(sidecar()) | {"format": 1}
    for name in asdict(sidecar()).keys() - {"checks", "unpacked"}:
        (engine.parent / "m.engine.json").write_text(json.dumps({k: v for k, v in values.items() if k != name}))
        with pytest.raises(InputError, match=rf"m\.engine\.json: field '{name}' is missing; build the engine again"):
            Sidecar.read(engine)


def test_sidecar_from_before_models_were_compared_and_engines_packed(engine: Path) -> None:
    values = {name: value for name, value in asdict(sidecar()).items() if name not in ("checks", "unpacked")}
    (engine.parent / "m.engine.json").write_text(json.dumps(values | {"format": 1}))
    assert Sidecar.read(engine) == replace(sidecar(), checks=())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format is not 1; build the engine again with this version"),
        ({"tensors": [{"name": "x"}]}, r"m\.engine\.json is damaged: "),
        ({"plugins": 7}, r"m\.engine\.json is damaged: "),
        ({"layers": [1]}, r"m\.engine\.json is damaged: "),
        ({"seconds": "1.5"}, r"is damaged: \$\.seconds: expected float, found '1\.5'; build the engine again"),
        ({"layers": {"CONVOLUTION": 2.5}}, r"is damaged: \$\.layers\.CONVOLUTION: expected int, found 2\.5; build the"),
        ({"colour": "red"}, r"json: unknown field 'colour'; known fields: sha256, .*; build the engine again"),
    ],
)
def test_sidecar_that_is_damaged(change: dict[str, Any], message: str, engine: Path) -> None:
    (engine.parent / "m.engine.json").write_text(json.dumps(asdict(sidecar()) | {"format": 1} | change))
    with pytest.raises(InputError, match=message):
        Sidecar.read(engine)


def test_inspect_refuses_what_is_damaged(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line."""
    (engine.parent / "m.engine.json").write_text(json.dumps(asdict(sidecar()) | {"format": 1, "bytes": "6"}))
    assert run(["inspect", str(engine)]) == 2
    assert capsys.readouterr().err.endswith(
        "m.engine.json is damaged: $.bytes: expected int, found '6'; build the engine again\n"
    )


def test_inspect_shows_it(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(engine), "--json", str(engine.parent / "report.json")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "built by tensorrt-rtx 1.2.3 in 1.5 s, at most 2048 MiB of memory" in printed
    assert "compute capabilities 8.6, 8.9" in printed
    assert "Rotate custom_ops.plugin 1" in printed
    assert "compared with it nothing to compare" in printed
    assert "image float32[6, 3, -1, 416]" in printed
    assert "differs" not in printed
    report = json.loads((engine.parent / "report.json").read_text())
    assert report["intact"]
    assert report["sidecar"]["layers"] == {"CONVOLUTION": 2, "PLUGIN_V3": 1}


@pytest.mark.parametrize("size", [5, 6, 2**42])
def test_inspect_says_that_the_engine_is_another(size: int, engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of another size, as a file of holes has it, is not read."""
    engine.write_bytes(b"other")
    os.truncate(engine, size)
    assert run(["inspect", str(engine)]) == 0
    assert "the engine differs from the one that its sidecar describes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m.engine", "has no sidecar m.engine.json; copy both files, or build the engine again"),
        ("other.engine", "cannot be read: No such file or directory"),
    ],
)
def test_inspect_without_a_file(name: str, message: str, engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (engine.parent / "m.engine.json").unlink()
    assert run(["inspect", str(engine.parent / name)]) == 2
    assert message in capsys.readouterr().err
