"""A part that Inductor compiled computes what torch.compile's does, and is read by later processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import pytest
import torch
import torch._inductor
from torch import Tensor
from torch.fx import GraphModule

from tests.toolkit.engines.gpu.test_parts_file import Layer, parts_of
from toolkit.engines.gpu.compiled import fused
from toolkit.engines.gpu.compiled.direct import SUFFIX, write_direct
from toolkit.engines.gpu.compiled.direct_record import REASON
from toolkit.engines.gpu.compiled.fused import FusedPart, constant_names, lifted

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs g++ on a CPU")
X = torch.arange(8.0).reshape(2, 4)


@pytest.fixture
def module() -> GraphModule:
    (part,) = parts_of(Layer(), torch.ones(2, 4))
    return part.module


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What compilers keep."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))


def called(part: FusedPart) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        return part(X)


def test_constants_become_inputs(module: GraphModule) -> None:
    """Before the others."""
    found, names = lifted(module), constant_names(module)
    constants = [attrgetter(name)(module) for name in names]
    assert len(names) == 3
    for one, other in zip(found(*constants, X), module(X), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
@needs_compiler
def test_what_was_compiled_is_read(module: GraphModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And computes the same bits as torch.compile's."""
    folder = tmp_path / "compiled"
    first = called(FusedPart(module, "0", folder))
    assert {path.suffix for path in folder.iterdir()} == {".bin", REASON}, "kernels for a CPU are no binaries"
    monkeypatch.setattr(torch._inductor, "standalone_compile", None)
    second = called(FusedPart(module, "0", folder))
    with torch.inference_mode():
        theirs = torch.compile(module.forward, dynamic=False, fullgraph=True)(X)
    for outputs in zip(first, second, theirs, strict=True):
        assert all(torch.equal(output, outputs[0]) for output in outputs)


@pytest.mark.slow
@needs_compiler
def test_a_damaged_file_is_made_again(module: GraphModule, tmp_path: Path) -> None:
    wanted = called(FusedPart(module, "0", tmp_path / "compiled"))
    (file,) = (tmp_path / "compiled").glob("*.bin")
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    for one, other in zip(called(FusedPart(module, "0", tmp_path / "compiled")), wanted, strict=True):
        assert torch.equal(one, other)
    assert len(file.read_bytes()) > 100


def test_code_is_of_one_gpu() -> None:
    """Inductor writes its number into it."""

    class Place:
        """Stands in for a tensor of a GPU."""

        dtype, shape = torch.float32, (2, 3)

        def __init__(self, number: int) -> None:
            self.device = torch.device("cuda", number)

        def stride(self) -> tuple[int, ...]:
            return (3, 1)

        def data_ptr(self) -> int:
            return 256

    names = [fused._digest("graph", [Place(number)]) for number in (0, 1, 0)]  # type: ignore[list-item]
    assert names[0] == names[2] != names[1]


def test_a_direct_file_is_taken_first(module: GraphModule, tmp_path: Path, doubled: list[Path]) -> None:
    """Without Inductor; one that is damaged, or fails when it is called, is left to Inductor, and made again."""
    part = FusedPart(module, "0", tmp_path)
    file = part._file([*(attrgetter(name)(module) for name in part._constants), X])
    assert file is not None
    direct = file.with_suffix(SUFFIX)
    call = "def call(args):\n    x = args[-1]\n    args.clear()\n    return (x + 1,)\n"
    write_direct(direct, call, {})
    assert torch.equal(called(part)[0], X + 1)
    assert torch.equal(part(X)[0], X + 1)
    assert doubled == []
    for content in (direct.read_bytes()[:50], b""):
        direct.write_bytes(content)
        assert torch.equal(called(FusedPart(module, "0", tmp_path))[0], X * 2)
    write_direct(direct, call.replace("x + 1", "x + missing"), {})
    assert torch.equal(called(FusedPart(module, "0", tmp_path))[0], X * 2)
    assert doubled == [direct.with_suffix(".bin")] * 3


@pytest.fixture
def doubled(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files with which Inductor, which doubles the last input, was asked to compile."""
    asked: list[Path] = []

    def compiled(module: GraphModule, arguments: list[Tensor], file: Path) -> Callable[..., tuple[Tensor, ...]]:
        asked.append(file)
        return lambda *given: (given[-1] * 2,)

    monkeypatch.setattr(fused, "_compiled", compiled)
    return asked


def test_reading_starts_no_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which Inductor else begins with when a first kernel is read, and waits for at the end."""
    from torch._inductor import config
    from torch._inductor.standalone_compile import CompiledArtifact

    monkeypatch.setattr(CompiledArtifact, "load", lambda path, format: config.compile_threads)
    (tmp_path / "0.bin").touch()
    with config.patch(compile_threads=7):
        assert fused._read(tmp_path / "0.bin") == 1
        assert config.compile_threads == 7


@pytest.mark.slow
@needs_compiler
def test_constants_may_be_renewed(module: GraphModule) -> None:
    """By others of their layout."""
    part = FusedPart(module, "0")
    before = called(part)
    (name,) = (name for name, buffer in module.named_buffers() if buffer.shape == (2, 3))
    setattr(module, name, (module.get_buffer(name)[0] + 50).expand(2, 3))
    after = called(part)
    assert not torch.equal(before[0], after[0])
    for one, other in zip(after, module(X), strict=True):
        assert torch.equal(one, other)
