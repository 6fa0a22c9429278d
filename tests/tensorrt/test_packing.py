"""An engine as a gzip file."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tensorrt.sidecars import sidecar
from toolkit.cli.main import run
from toolkit.engines.tensorrt.packing import pack, unpack
from toolkit.errors import InputError

ENGINE = b"source of a kernel" * 100
PATH = Path("m.engine")


def test_what_is_packed_is_unpacked() -> None:
    packed = pack(ENGINE)
    assert len(packed) < len(ENGINE) / 10
    assert unpack(packed, len(ENGINE), PATH) == ENGINE


def test_it_is_a_gzip_file_of_no_date(tmp_path: Path) -> None:
    """Anybody's gunzip makes of it what TensorRT's own programs load, and two builds can be compared."""
    path = tmp_path / "m.engine.gz"
    path.write_bytes(pack(ENGINE))
    with gzip.open(path) as file:
        assert file.read() == ENGINE
    assert pack(ENGINE)[4:8] == bytes(4)


@pytest.mark.parametrize("size", [len(ENGINE) - 1, len(ENGINE) + 1, 0, -1, 2**63 - 1])
def test_another_size_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=r"m\.engine is not packed as its sidecar says; copy both again, or build"):
        unpack(pack(ENGINE), size, PATH)


@pytest.mark.parametrize("packed", [ENGINE, b"", pack(ENGINE)[:-9], pack(ENGINE)[:-1] + b"!"])
def test_what_is_not_packed_or_damaged_is_refused(packed: bytes) -> None:
    with pytest.raises(InputError, match=r"m\.engine is not packed"):
        unpack(packed, len(ENGINE), PATH)


def test_inspect_tells_both_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(b"engine")
    replace(sidecar(), unpacked=3 * 2**20).write(path)
    assert run(["inspect", str(path)]) == 0
    assert "MiB, packed by gzip from 3.0" in " ".join(capsys.readouterr().out.split())
