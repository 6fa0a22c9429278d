"""A part that Inductor compiled computes what torch.compile's does, and is read by later processes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import pytest
import torch
import torch._inductor
from torch import Tensor, nn
from torch.fx import GraphModule

from tests.toolkit.engines.gpu.test_parts_file import CPU, IDENTITY, Layer, parts_of
from tests.toolkit.toy_bundle import write_toy_bundle
from toolkit.engines.gpu import kept
from toolkit.engines.gpu.compiled import ahead, fused
from toolkit.engines.gpu.compiled.ahead import COMPLETE, Compile, Layout, PartsJob, compilers, input_layouts
from toolkit.engines.gpu.compiled.direct import SUFFIX, write_direct
from toolkit.engines.gpu.compiled.direct_record import REASON
from toolkit.engines.gpu.compiled.fused import FusedPart, constant_names, lifted
from toolkit.engines.gpu.compiled.parts_file import read_parts, write_parts
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision

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


@pytest.mark.slow
@needs_compiler
def test_processes_compile_what_one_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into files that it reads; layouts are known without computing."""
    write_parts(tmp_path / "parts", parts_of(Layer(), torch.ones(2, 4)), IDENTITY)
    parts = read_parts(tmp_path / "parts", IDENTITY, CPU)
    inputs = (("x", (2, 4), "float32"),)
    for name, output in zip(parts[0].outputs, parts[0].module(X), strict=True):
        assert input_layouts(parts, inputs, "cpu")[name] == Layout.of(output)
    folder = tmp_path / "compiled"
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)))
    job = PartsJob(tmp_path / "parts", tuple(IDENTITY.items()), folder, "cpu", inputs)
    with compilers(folder) as compile_parts:
        compile_parts(job, parts)
    assert (folder / COMPLETE).is_file()
    monkeypatch.setattr(torch._inductor, "standalone_compile", None)
    for one, other in zip(called(FusedPart(parts[0].module, "0", folder)), parts[0].module(X), strict=True):
        assert torch.equal(one, other)
    with compilers(folder) as compile_parts:  # which has all of it, so that no process is needed
        compile_parts(replace(job, file=tmp_path / "gone"), parts)


@pytest.mark.parametrize("at_work", [False, True])
def test_processes_that_were_ended_leave_it_to_others(
    at_work: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command goes on, and the next one tries again."""

    class Broken:
        """A pool of which a process is gone, or goes while it is at work."""

        def submit(self, *_: object) -> Future[None]:
            if not at_work:
                raise BrokenProcessPool
            future = Future[None]()
            future.set_exception(BrokenProcessPool())
            return future

    @contextmanager
    def process_pool(workers: int, option: str) -> Iterator[Broken]:
        yield Broken()

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)))
    monkeypatch.setattr(ahead, "process_pool", process_pool)
    folder = tmp_path / "compiled"
    with compilers(folder) as compile_parts:
        compile_parts(PartsJob(tmp_path / "parts", (), folder, "cpu", ()), parts_of(Layer(), torch.ones(2, 4)))
    assert not folder.exists()


def test_a_layout_is_where_a_tensor_begins_as_well() -> None:
    """Code is compiled for addresses that are multiples of 16 bytes, or for others."""
    row = torch.zeros(3, 9)[:, 6]
    layout = Layout.of(row)
    zeros = layout.zeros("cpu")
    assert Layout.of(zeros) == layout
    assert zeros.data_ptr() % 16 == row.data_ptr() % 16 == 8
    assert Layout.of(Layout.of(torch.zeros(2, 0)).zeros("cpu")).shape == (2, 0)


@pytest.mark.parametrize("asked", ["1", "0", ""])
def test_processes_compile_parts_unless_told_otherwise(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the very parts that are read, into a folder of the entry."""
    plugins, compiled, said = PluginManager.load(), list[tuple[PartsJob, int]](), list[str]()
    toy = write_toy_bundle(tmp_path / "bundle", plugins)

    @contextmanager
    def recorded(folder: Path) -> Iterator[Compile]:
        yield lambda job, parts: compiled.append((job, len(parts)))

    monkeypatch.setenv(kept.PARTS_VARIABLE, asked)
    monkeypatch.setenv(kept.FOLDER_VARIABLE, str(tmp_path / "kept"))
    for variable in kept.COMPILERS:
        monkeypatch.setenv(variable, "")  # so that it is as before after the test
        monkeypatch.delenv(variable)
    monkeypatch.setattr(kept, "compilers", recorded)
    monkeypatch.setattr(kept, "load_network", lambda bundle, plugins: nn.Identity())
    monkeypatch.setattr(kept, "rewrite_network", lambda network, precision: parts_of(Layer(), torch.ones(2, 4)))
    parts, place = kept.bundle_parts(toy, plugins, Precision.FP16, CPU, inductor=True, warn=said.append)
    assert (len(parts), said) == (1, [])
    if asked == "0":
        assert (place, compiled) == (None, [])
        return
    (entry,) = (tmp_path / "kept" / "networks").iterdir()
    assert place == entry / kept.COMPILED
    ((job, count),) = compiled
    assert (job.folder, job.file, job.device, count) == (place, entry / kept.PARTS, "cpu", 1)
    assert {name for name, _, _ in job.inputs} == {spec.name for spec in (*toy.frame_inputs, *toy.state_inputs)}
