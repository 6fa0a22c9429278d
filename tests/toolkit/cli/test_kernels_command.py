"""`kernels compile`: every kernel compiles, for the calls that the network makes, on a machine without a GPU."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from toolkit.cli.main import run
from toolkit.ops.kernel import cached_code, code_name
from toolkit.ops.precompile import INDEX_FILE
from toolkit.plugin.manager import PluginManager

pytestmark = pytest.mark.slow

ARCHITECTURES = {"sm_86", "sm_120"}
OPS = {op.name: op for op in PluginManager.load().custom_ops()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes."""
    folder = tmp_path_factory.mktemp("kernels") / "compiled"
    assert run(["kernels", "compile", "--arch", "sm_86, sm_120", "-o", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def index(folder: Path) -> list[dict[str, Any]]:
    """The description of the files."""
    entries: list[dict[str, Any]] = json.loads((folder / INDEX_FILE).read_text())
    return entries


def test_every_op_compiles_for_every_dtype_and_architecture(index: list[dict[str, Any]]) -> None:
    compiled = defaultdict(set)
    for entry in index:
        compiled[entry["op"]].add((entry["dtype"], entry["architecture"]))
    everything = {(dtype, architecture) for dtype in ("float32", "float16") for architecture in ARCHITECTURES}
    assert compiled == dict.fromkeys(OPS, everything)


def test_calls_are_those_of_the_network(index: list[dict[str, Any]]) -> None:
    """Spatial attention over the cameras; temporal attention and the decoders on the BEV."""
    attention = [entry for entry in index if entry["op"] == "MultiScaleDeformableAttention"]
    assert {tuple(entry["attributes"]["spatial_shapes"]) for entry in attention} == {(8, 13), (50, 50)}
    assert {tuple(entry["inputs"][0]) for entry in index if entry["op"] == "Rotate"} == {(256, 50, 50)}


def test_files_are_ptx_and_machine_code_of_the_entry_point(folder: Path, index: list[dict[str, Any]]) -> None:
    for entry in index:
        ptx = (folder / entry["ptx"]).read_text()
        assert f".target {entry['architecture']}" in ptx
        assert f".visible .entry {entry['entry']}(" in ptx
        cubin = (folder / entry["cubin"]).read_bytes()
        assert cubin.startswith(b"\x7fELF")
        assert entry["entry"].encode() in cubin


def test_a_copied_cubin_spares_the_compilation(
    folder: Path, index: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files have the names that the kernel cache looks for."""
    cache = tmp_path / "uniad-toolkit"
    cache.mkdir()
    (cache / "kernels").symlink_to(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    without_compiler(monkeypatch)
    entry = index[0]
    kernel = OPS[entry["op"]].kernel
    assert kernel is not None
    code = cached_code(kernel.source, entry["architecture"], entry["macros"])
    assert code == (folder / entry["cubin"]).read_bytes()


def test_each_macro_and_architecture_has_a_name_of_its_own(tmp_path: Path) -> None:
    source = tmp_path / "kernel.cu"
    source.touch()
    names = {code_name(source, arch, {"N": n}) for arch in ("sm_86", "sm_89") for n in (1, 2)}
    assert len(names) == 4


def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without cuda-bindings."""
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)


def test_one_op_alone(tmp_path: Path) -> None:
    assert run(["kernels", "compile", "Inverse", "--arch", "sm_86", "-o", str(tmp_path / "one")]) == 0
    entries = json.loads((tmp_path / "one" / INDEX_FILE).read_text())
    assert [(entry["op"], entry["dtype"]) for entry in entries] == [("Inverse", "float32"), ("Inverse", "float16")]


def test_unknown_op(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kernels", "compile", "Invers"]) == 2
    assert "there is no custom op 'Invers'; known: MultiScaleDeformableAttention" in capsys.readouterr().err


def test_unknown_architecture(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kernels", "compile", "--arch", "sm_86,sm_1"]) == 2
    assert "--arch sm_1: NVRTC compiles for sm_" in capsys.readouterr().err


def test_absent_compiler(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    without_compiler(monkeypatch)
    assert run(["kernels", "compile"]) == 2
    assert "pip install 'uniad-toolkit[cuda]'" in capsys.readouterr().err


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kernels", "compile", "--help"]) == 0
    assert "Example: uniad-toolkit kernels compile --arch" in capsys.readouterr().out
