"""Compiling the parts of a network side by side, each in a process, before one process needs them all."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from toolkit.batch.processes import interrupts_blocked, process_pool
from toolkit.engines.gpu.compiled.fused import no_workers
from toolkit.engines.gpu.compiled.network import compile_part
from toolkit.engines.gpu.compiled.parts_file import read_parts
from toolkit.engines.gpu.compiled.rewrite import RewrittenPart
from toolkit.plugin.manager import PluginManager

THREADS = "TORCHINDUCTOR_COMPILE_THREADS"
"""The variable that says how many processes Inductor compiles with, in each of ours."""
COMPLETE = "complete"
"""A file of a job's folder, which says that all was tried: a start that was interrupted is gone on with."""
MOST_PROCESSES = 16
PROCESS_BYTES = 2 * 2**30
"""That each may take of main memory, of which half is theirs, and of the GPU's: torch, CUDA, the network's weights."""


@dataclass(frozen=True)
class PartsJob:
    """The parts of a kept network in values that another process understands; `inputs` are the network's own."""

    file: Path
    identity: tuple[tuple[str, str], ...]
    folder: Path
    device: str
    inputs: tuple[tuple[str, tuple[int, ...], str], ...]
    plugin_files: tuple[Path, ...] = ()
    disabled_plugins: tuple[str, ...] = ()


Compile = Callable[[PartsJob, Sequence[RewrittenPart]], None]
"""Fills a job's folder; what does not compile is left to whoever needs it."""


@dataclass(frozen=True)
class Layout:
    """How a tensor lies in memory: type, shape, strides, the offset of its first value, and the kind of device."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    kind: str

    @classmethod
    def of(cls, tensor: Tensor) -> Layout:
        return cls(tensor.dtype, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()), tensor.device.type)

    def zeros(self, device: str) -> Tensor:
        """A tensor that lies so, on a device of the kind."""
        size = 1 + self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        values = torch.zeros(max(size, 0), dtype=self.dtype, device="cpu" if self.kind == "cpu" else device)
        return values.as_strided(self.shape, self.stride, self.offset)


@contextmanager
def compilers(folder: Path) -> Iterator[Compile]:
    """Processes, one a core at most, that compile parts; within the block they begin to import what that takes.

    If the `folder` of the job to come is complete, or there is no room for two, nothing is compiled.
    """
    processes = min(len(os.sched_getaffinity(0)), MOST_PROCESSES, _room() // PROCESS_BYTES)
    if processes < 2 or (folder / COMPLETE).exists():
        yield lambda job, parts: None
        return
    threads = os.environ.get(THREADS)
    os.environ[THREADS] = str(processes // 2)  # parts differ in size: those that are left at the end have all cores
    try:
        with process_pool(processes, "processes") as pool:
            with suppress(BrokenProcessPool), interrupts_blocked():
                for _ in range(processes):
                    pool.submit(_import)
            yield functools.partial(_compile_all, pool)
    finally:
        if threads is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = threads


def _compile_all(pool: ProcessPoolExecutor, job: PartsJob, parts: Sequence[RewrittenPart]) -> None:
    longest_first = sorted(range(len(parts)), key=lambda number: -len(parts[number].module.graph.nodes))
    missing = [number for number in longest_first if not any(job.folder.glob(f"{number}-*"))]
    try:
        with interrupts_blocked():
            begun = [pool.submit(_compile, job, number) for number in missing]
    except BrokenProcessPool as error:
        failures: list[BaseException | None] = [error]
    else:
        with no_workers():
            _import()  # for parts that have no direct file in the end; while others compile it takes no time
        failures = [future.exception() for future in begun]
    if any(isinstance(failure, BrokenProcessPool) for failure in failures):
        return  # one was ended from outside: who needs the parts compiles them, and a later start tries again
    with suppress(OSError):
        job.folder.mkdir(mode=0o700, exist_ok=True)
        (job.folder / COMPLETE).touch()


def _room() -> int:
    """Bytes for all processes."""
    room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return min(room, torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else room


def _import() -> None:
    """What takes seconds, and needs no network."""
    import torch._inductor.compile_fx

    if torch.cuda.is_available():
        torch.cuda.init()


def _compile(job: PartsJob, number: int) -> None:
    parts, layouts = _opened(job)
    part = parts[number]
    with torch.inference_mode():
        inputs = {name: layouts[name].zeros(job.device) for name in part.inputs}
        compile_part(part, str(number), folder=job.folder)(inputs)
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@functools.cache
def _opened(job: PartsJob) -> tuple[list[RewrittenPart], dict[str, Layout]]:
    plugins = PluginManager.load(job.plugin_files, disabled=job.disabled_plugins, warn=lambda _: None)
    plugins.custom_ops()
    parts = read_parts(job.file, dict(job.identity), torch.device(job.device))
    return parts, input_layouts(parts, job.inputs, job.device)


def input_layouts(
    parts: Sequence[RewrittenPart], inputs: Sequence[tuple[str, tuple[int, ...], str]], device: str
) -> dict[str, Layout]:
    """How all tensors between the parts lie in memory, found without computing any."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        known: dict[str, Tensor] = {
            name: torch.empty(shape, dtype=getattr(torch, dtype), device=device) for name, shape, dtype in inputs
        }
        for part in parts:
            outputs = part.module(*(known[name] for name in part.inputs))
            known |= zip(part.outputs, (outputs,) if isinstance(outputs, Tensor) else outputs, strict=True)
        return {name: Layout.of(tensor) for name, tensor in known.items()}
