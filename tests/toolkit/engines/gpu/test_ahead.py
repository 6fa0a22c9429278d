"""Processes rewrite and compile what one would; what they do not deliver, who needs it makes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch._inductor
from safetensors import SafetensorError, safe_open
from torch import nn
from tqdm import tqdm

from tests.toolkit.engines.gpu.test_parts_file import CPU, IDENTITY, Layer, parts_of
from tests.toolkit.toy_bundle import CONFIG, write_toy_bundle
from toolkit.bundle import Bundle
from toolkit.engines.gpu import kept
from toolkit.engines.gpu.compiled import ahead
from toolkit.engines.gpu.compiled.ahead import COMPLETE, PartsJob, Processes, processes_for
from toolkit.engines.gpu.compiled.fused import FusedPart
from toolkit.engines.gpu.compiled.kernel_calls import layouts_and_calls
from toolkit.engines.gpu.compiled.layouts import Layout, input_layouts
from toolkit.engines.gpu.compiled.operators import OF_TRITON
from toolkit.engines.gpu.compiled.parts_file import read_parts, write_parts
from toolkit.engines.gpu.compiled.rewrite import RewrittenPart, rewrite_network
from toolkit.engines.torch import load_network
from toolkit.errors import InputError
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs g++ on a CPU")
X = torch.arange(8.0).reshape(2, 4)
WITHOUT = ("occupancy", "map_segmentation", "motion", "planning")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everything is kept, also what compilers keep, and four cores."""
    monkeypatch.setenv(kept.FOLDER_VARIABLE, str(tmp_path / "kept"))
    for variable, folder in kept.COMPILERS.items():
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)))


@pytest.fixture(scope="module")
def plugins() -> PluginManager:
    return PluginManager.load()


@pytest.fixture
def toy(tmp_path: Path, plugins: PluginManager) -> Bundle:
    return write_toy_bundle(tmp_path / "bundle", plugins, without=WITHOUT)


@pytest.fixture
def job(tmp_path: Path, toy: Bundle) -> PartsJob:
    inputs = tuple((s.name, s.resolve(CONFIG.dimensions()), s.dtype) for s in (*toy.frame_inputs, *toy.state_inputs))
    identity = tuple(IDENTITY.items())
    return PartsJob(toy.path, Precision.FP16, "cpu", tmp_path / "parts", identity, tmp_path / "compiled", inputs)


def written(path: Path, parts: Sequence[RewrittenPart]) -> dict[str, str]:
    """All that a file of parts says: their graphs as text, and a digest of that and of all constants."""
    write_parts(path, parts, IDENTITY)
    with safe_open(path, "pt") as file:
        found: dict[str, str] = file.metadata()
    return found


def _surroundings() -> tuple[str, str, str]:
    """The kind of lock that torch's progress has, a semaphore by default, and where what is printed goes."""
    return type(tqdm.get_lock()).__name__, os.readlink("/proc/self/fd/1"), os.readlink("/proc/self/fd/2")


@pytest.mark.slow
def test_processes_rewrite_what_one_would(
    job: PartsJob, toy: Bundle, plugins: PluginManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit; and a submodule that cannot be rewritten leaves all to this process, which is told why."""
    monkeypatch.setattr(Processes, "_begin", lambda *_: None)  # compiling is another test's matter
    wanted = rewrite_network(load_network(toy, plugins), job.precision)
    with processes_for(job) as processes:
        parts = processes.rewrite(toy.submodules)
        assert written(tmp_path / "apart", parts) == written(tmp_path / "here", wanted)
        assert processes.pool is not None
        assert processes.pool.submit(_surroundings).result() == ("RLock", os.devnull, os.devnull)
        toy.weights.write_bytes(b"")
        assert processes.rewrite(toy.submodules) == []
    assert processes.scratch is not None
    assert not processes.scratch.exists()
    with pytest.raises(InputError, match="cannot be read"):
        kept.bundle_parts(toy, plugins, job.precision, CPU, inductor=True, warn=print)


@pytest.mark.slow
@needs_compiler
def test_processes_compile_what_one_would(job: PartsJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into files that it reads."""
    write_parts(job.file, parts_of(Layer(), torch.ones(2, 4)), IDENTITY)
    parts = read_parts(job.file, IDENTITY, CPU)
    own = replace(job, inputs=(("x", (2, 4), "float32"),))
    with processes_for(own) as processes:
        processes.compile(parts)
    assert (own.folder / COMPLETE).is_file()
    monkeypatch.setattr(torch._inductor, "standalone_compile", None)
    with torch.inference_mode():
        found = FusedPart(parts[0].module, "0", own.folder)(X)
    for one, other in zip(found, parts[0].module(X), strict=True):
        assert torch.equal(one, other)
    with processes_for(own) as processes:
        assert processes.pool is None  # all of it is there


@pytest.mark.parametrize("at_work", [False, True])
def test_processes_that_were_ended_leave_it_to_others(
    at_work: bool, job: PartsJob, toy: Bundle, monkeypatch: pytest.MonkeyPatch
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
    def process_pool(workers: int, option: str, **_: object) -> Iterator[Broken]:
        yield Broken()

    monkeypatch.setattr(ahead, "process_pool", process_pool)
    with processes_for(replace(job, inputs=(("x", (2, 4), "float32"),))) as processes:
        assert processes.rewrite(toy.submodules) == []
        processes.compile(parts_of(Layer(), torch.ones(2, 4)))
    assert not job.folder.exists()


def test_an_operator_that_only_computes_leaves_it_to_others(job: PartsJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(ahead, "layouts_and_calls", fails)
    with processes_for(job) as processes:
        write_parts(job.file, parts_of(Layer(), torch.ones(2, 4)), IDENTITY)
        processes.compile(job.parts([job.file]))
    assert [path.name for path in job.folder.iterdir()] == [COMPLETE]


@pytest.fixture
def no_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of processes."""

    class Pool:
        def submit(self, *_: object) -> None: ...

    monkeypatch.setattr(ahead, "process_pool", lambda *_, **__: nullcontext(Pool()))


@pytest.mark.usefixtures("no_pool")
def test_without_room_for_files_processes_only_compile(
    job: PartsJob, toy: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(purpose: str) -> None:
        raise InputError("no space is left")

    monkeypatch.setattr(ahead, "temporary_folder", full)
    with processes_for(job) as processes:
        assert processes.rewrite(toy.submodules) == []
        assert processes.pool is not None


@pytest.mark.usefixtures("no_pool")
def test_a_process_that_may_have_none_starts_none(job: PartsJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one of `multiprocessing.Pool`."""
    monkeypatch.setattr(multiprocessing, "current_process", lambda: multiprocessing.Process(daemon=True))
    with processes_for(job) as processes:
        assert processes.pool is None


def test_each_process_has_a_core(job: PartsJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main one too, as long as there are others; but what they are told of Inductor does not concern it."""

    @contextmanager
    def process_pool(workers: int, option: str, **told: object) -> Iterator[None]:
        assert told["variables"] == ahead.VARIABLES
        assert dict(os.environ) == before
        assert torch.get_num_threads() == 1
        raise BrokenProcessPool
        yield

    monkeypatch.setattr(ahead, "process_pool", process_pool)
    before, threads = dict(os.environ), torch.get_num_threads()
    torch.set_num_threads(3)
    with pytest.raises(BrokenProcessPool), processes_for(job):
        pass
    assert torch.get_num_threads() == 3
    torch.set_num_threads(threads)


def test_layouts_are_known_without_computing(job: PartsJob) -> None:
    parts = parts_of(Layer(), torch.ones(2, 4))
    layouts = input_layouts(parts, (("x", (2, 4), "float32"),), "cpu")
    for name, output in zip(parts[0].outputs, parts[0].module(X), strict=True):
        assert layouts[name] == Layout.of(output)


def test_a_layout_is_where_a_tensor_begins_as_well() -> None:
    """Code is compiled for addresses that are multiples of 16 bytes, or for others."""
    row = torch.zeros(3, 9)[:, 6]
    layout = Layout.of(row)
    zeros = layout.zeros("cpu")
    assert Layout.of(zeros) == layout
    assert zeros.data_ptr() % 16 == row.data_ptr() % 16 == 8
    assert Layout.of(Layout.of(torch.zeros(2, 0)).zeros("cpu")).shape == (2, 0)


def test_calls_of_kernels_are_known_without_computing(job: PartsJob, toy: Bundle, plugins: PluginManager) -> None:
    """Each once; they can be repeated with zeros."""
    parts = rewrite_network(load_network(toy, plugins), job.precision)
    layouts, calls = layouts_and_calls(parts, job.inputs, "cpu")
    assert layouts == input_layouts(parts, job.inputs, "cpu")
    called = [node.target for part in parts for node in part.module.graph.nodes if node.target in OF_TRITON]
    assert {call.operator for call in calls} == {OF_TRITON[target] for target in called}
    assert len(set(calls)) == len(calls) < len(called)
    for call in calls:
        call.repeat("cpu")


@pytest.mark.parametrize("asked", ["1", "0", ""])
def test_processes_compile_parts_unless_told_otherwise(
    asked: str, toy: Bundle, plugins: PluginManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the very parts that are read, into a folder of the entry."""
    compiled, said = list[tuple[PartsJob, int]](), list[str]()

    class Recorded(Processes):
        def compile(self, parts: Sequence[RewrittenPart]) -> None:
            compiled.append((self.job, len(parts)))

    monkeypatch.setenv(kept.PARTS_VARIABLE, asked)
    monkeypatch.setattr(kept, "processes_for", lambda job: nullcontext(Recorded(job)))
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
    assert (job.bundle, job.folder, job.file, job.device) == (toy.path, place, entry / kept.PARTS, "cpu")
    assert count == 1
    assert {name for name, _, _ in job.inputs} == {spec.name for spec in (*toy.frame_inputs, *toy.state_inputs)}


def test_processes_are_ended_where_nothing_can_be_kept(
    toy: Bundle, plugins: PluginManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, for example: nobody would find what they compile."""
    ended, said = list[str](), list[str]()

    @contextmanager
    def processes(job: PartsJob) -> Iterator[Processes]:
        try:
            yield Processes(job)
            ended.append("in peace")
        except Exception:
            ended.append("at once")
            raise

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("no space is left")

    monkeypatch.setattr(kept, "processes_for", processes)
    monkeypatch.setattr(kept, "load_network", lambda bundle, plugins: nn.Identity())
    monkeypatch.setattr(kept, "rewrite_network", lambda network, precision: parts_of(Layer(), torch.ones(2, 4)))
    monkeypatch.setattr(safetensors.torch, "save_file", full)
    parts, place = kept.bundle_parts(toy, plugins, Precision.FP16, CPU, inductor=True, warn=said.append)
    assert (len(parts), place, ended) == (1, None, ["at once"])
    (line,) = said
    assert line.startswith("the rewritten network is not kept: ")
    assert "no space is left" in line
