"""Making the parts of a network side by side, by processes, before one process needs them all.

They export and rewrite submodules, then compile parts, and kernels of the toolkit's own. What they do not deliver is
made by who needs it.
"""

from __future__ import annotations

import functools
import gc
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from toolkit.batch.processes import interrupts_blocked, process_pool
from toolkit.bundle import Bundle, SubmoduleRecord
from toolkit.engines.gpu.compiled.kernel_calls import OperatorCall, layouts_and_calls, one_for_each_kernel
from toolkit.engines.gpu.compiled.layouts import Layout, NetworkInputs
from toolkit.engines.gpu.compiled.network import compile_part
from toolkit.engines.gpu.compiled.parts_file import read_parts, write_parts
from toolkit.engines.gpu.compiled.rewrite import RewrittenPart, rewrite_submodule
from toolkit.engines.torch import load_network
from toolkit.errors import InputError
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.storage.outputs import temporary_folder

PRELOADED = ("toolkit.engines.gpu.compiled.ahead", "torch._inductor.compile_fx", "torch.export._trace", "triton")
"""Modules that take seconds to import."""
VARIABLES = {
    "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no processes of Inductor's in each of ours, but for parts that are long
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # where torch looks for a GPU, it does not open it: that forbids a fork
}
"""Of the processes' environment, beside those of this one."""
NO_PROCESSES = (BrokenProcessPool, OSError, EOFError)
"""Errors of processes that cannot be started, or are gone."""
COMPLETE = "complete"
"""A file of a job's folder, which says that all was tried: a start that was interrupted is gone on with."""
MOST_PROCESSES = 16
PROCESS_BYTES = 2 * 2**30
"""That each may take of main memory, of which half is theirs, and of the GPU's: torch, CUDA, the network's weights."""


@dataclass(frozen=True)
class PartsJob:
    """The parts of a bundle's network in values that another process understands; `inputs` are the network's own.

    They are kept in `file`, and what Inductor makes of them in `folder`.
    """

    bundle: Path
    precision: Precision
    device: str
    file: Path
    identity: tuple[tuple[str, str], ...]
    folder: Path
    inputs: NetworkInputs
    plugin_files: tuple[Path, ...] = ()
    disabled_plugins: tuple[str, ...] = ()

    def plugins(self) -> PluginManager:
        return PluginManager.load(self.plugin_files, disabled=self.disabled_plugins, warn=lambda _: None)

    def parts(self, files: Iterable[Path]) -> list[RewrittenPart]:
        """Those of all files, in order."""
        device = torch.device(self.device)
        return [part for file in files for part in read_parts(file, dict(self.identity), device)]


@dataclass
class Processes:
    """So many processes for a job, or none. They may leave files in `scratch`, if there is room for any."""

    job: PartsJob
    count: int = 0
    pool: ProcessPoolExecutor | None = None
    scratch: Path | None = None
    _begun: list[Future[None]] = field(default_factory=list)

    def rewrite(self, submodules: Sequence[SubmoduleRecord]) -> list[RewrittenPart]:
        """What `rewrite_network` gives for a network of these submodules; then they begin to compile it.

        Empty if there are no processes, or any of them fails: who rewrites the network here is told why.
        """
        if self.pool is None or self.scratch is None:
            return []
        files = {record.name: self.scratch / str(number) for number, record in enumerate(submodules)}
        try:
            with interrupts_blocked():
                begun = [self.pool.submit(_rewrite, self.job, name, file) for name, file in files.items()]
            for future in begun:
                future.result()
            parts = self.job.parts(files.values())
        except Exception:
            return []
        self._begin(parts, tuple(files.values()))
        return parts

    def compile(self, parts: Sequence[RewrittenPart]) -> None:
        """Fill the job's folder, if there are processes; what does not compile is left to whoever needs it."""
        if self.pool is None:
            return
        if not self._begun:
            self._begin(parts, (self.job.file,))
        if any(isinstance(future.exception(), NO_PROCESSES) for future in self._begun):
            return  # one was ended from outside: who needs the parts compiles them, and a later start tries again
        with suppress(OSError):
            self.job.folder.mkdir(mode=0o700, exist_ok=True)
            (self.job.folder / COMPLETE).touch()

    def _begin(self, parts: Sequence[RewrittenPart], files: tuple[Path, ...]) -> None:
        """Compile what is in these files, longest parts first; shorter ones when our own kernels are there."""
        self._submit(_open, [(self.job, files)] * self.count)
        try:
            layouts, calls = layouts_and_calls(parts, self.job.inputs, self.job.device)
        except Exception:  # of an operator, which may be anyone's
            return
        sizes = [len(part.module.graph.nodes) for part in parts]
        longest_first = sorted(range(len(parts)), key=lambda number: -sizes[number])
        tasks = list[tuple[Any, ...]]()
        for number in longest_first:
            if not any(self.job.folder.glob(f"{number}-*")):
                threads = self.count // 2 if sizes[number] * self.count > sum(sizes) else 1
                tasks.append((self.job, files, number, [layouts[name] for name in parts[number].inputs], threads))
        self._submit(_compile, tasks[: self.count // 2])
        self._submit(OperatorCall.repeat, [(call, self.job.device) for call in _kernels(calls, self.job.device)])
        self._submit(_compile, tasks[self.count // 2 :])

    def _submit(self, function: Callable[..., None], tasks: Iterable[tuple[Any, ...]]) -> None:
        assert self.pool is not None
        try:
            with interrupts_blocked():
                self._begun += [self.pool.submit(function, *task) for task in tasks]
        except NO_PROCESSES as error:
            failed = Future[None]()
            failed.set_exception(error)
            self._begun.append(failed)


@contextmanager
def processes_for(job: PartsJob) -> Iterator[Processes]:
    """Processes, one a core at most, for a job; within the block they get ready for it.

    There are none if its folder is complete, there is no room for two, or this process may start none.
    """
    count = min(len(os.sched_getaffinity(0)), MOST_PROCESSES, _room() // PROCESS_BYTES)
    may_start_none = multiprocessing.current_process().daemon  # as those of multiprocessing.Pool
    if count < 2 or may_start_none or (job.folder / COMPLETE).exists():
        yield Processes(job)
        return
    with ExitStack() as stack:
        processes = Processes(job, count)
        with suppress(InputError):
            processes.scratch = stack.enter_context(temporary_folder("parts"))
        stack.enter_context(_one_thread())
        pool = process_pool(count, "processes", begin=_get_ready, preload=PRELOADED, variables=VARIABLES)
        processes.pool = stack.enter_context(pool)
        with suppress(*NO_PROCESSES), interrupts_blocked():
            for _ in range(count):
                processes.pool.submit(_open_gpu)
        yield processes


@contextmanager
def _one_thread() -> Iterator[None]:
    """Within the block, torch has one thread here: each of the other processes has a core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _room() -> int:
    """Bytes for all processes."""
    room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return min(room, torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else room


def _get_ready() -> None:
    with open(os.devnull, "w") as nowhere:  # what plugins and torch print, each process would print
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    torch.set_num_threads(1)
    with suppress(ImportError):  # torch shows progress by it if it is there
        from tqdm import tqdm

        tqdm.set_lock(threading.RLock())  # its own is a semaphore, of which there is talk when a process is ended
    gc.disable()  # to look for garbage, of which there is little, takes an eighth of a compiler's time


def _open_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.init()


def _rewrite(job: PartsJob, name: str, file: Path) -> None:
    network = load_network(Bundle.read(job.bundle), job.plugins()).to(job.device)
    (submodule,) = (submodule for submodule in network.graph.submodules if submodule.name == name)
    write_parts(file, rewrite_submodule(network, submodule, job.precision), dict(job.identity))


def _kernels(calls: Sequence[OperatorCall], device: str) -> list[OperatorCall]:
    if torch.device(device).type != "cuda":
        return []
    try:
        return one_for_each_kernel(calls, device)
    except Exception:  # of another version of Triton, for example: each part has them compiled when it launches them
        return []


def _open(job: PartsJob, files: tuple[Path, ...]) -> None:
    _opened(job, files)


@functools.cache
def _opened(job: PartsJob, files: tuple[Path, ...]) -> list[RewrittenPart]:
    job.plugins().custom_ops()
    return job.parts(files)


def _compile(job: PartsJob, files: tuple[Path, ...], number: int, inputs: Sequence[Layout], threads: int) -> None:
    """A part for inputs that lie so; so many processes of Inductor's compile its kernels."""
    from torch._inductor import config
    from torch._inductor.async_compile import AsyncCompile

    part = _opened(job, files)[number]
    with config.patch(compile_threads=threads), torch.inference_mode():
        if threads > 1:
            AsyncCompile.use_process_pool()  # which starts them; they are ready when the part is traced
        zeros = [layout.zeros(job.device) for layout in inputs]
        compile_part(part, str(number), folder=job.folder)(dict(zip(part.inputs, zeros, strict=True)))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
