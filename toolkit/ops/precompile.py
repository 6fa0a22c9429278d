"""Compiling kernels ahead of time, to PTX and to machine code, on a machine that needs no GPU."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import InputError
from toolkit.ops.calls import Call, network_calls
from toolkit.ops.entry_point import check_entry
from toolkit.ops.kernel import SCALARS, code_name
from toolkit.ops.nvrtc import compile_kernel, supported_architectures
from toolkit.ops.spec import CustomOp
from toolkit.wiring import NetworkGraph

INDEX_FILE = "kernels.json"


@dataclass(frozen=True)
class CompiledKernel:
    """Code of one kernel for a call, a dtype and an architecture (``sm_XY``)."""

    call: Call
    dtype: str
    architecture: str
    ptx: bytes
    cubin: bytes


def parse_architectures(text: str) -> list[str]:
    """The architectures of a comma-separated list. Raises InputError if NVRTC is absent or does not know one."""
    known = supported_architectures()
    architectures = [name.strip() for name in text.split(",")]
    for architecture in architectures:
        if architecture not in known:
            raise InputError(f"--arch {architecture}: NVRTC compiles for {', '.join(known)}; choose among these")
    return architectures


def calls_to_compile(graph: NetworkGraph, ops: Sequence[CustomOp]) -> list[Call]:
    """The network's calls of every op that has a kernel; for an op that it does not call, the op's example, if any."""
    with_kernel = [op for op in ops if op.kernel is not None]
    calls = network_calls(graph, with_kernel)
    called = [call.op for call in calls]
    examples = [Call.of_example(op) for op in with_kernel if op not in called]
    return calls + [call for call in examples if call is not None]


def compile_calls(calls: Iterable[Call], architectures: Sequence[str]) -> Iterator[CompiledKernel]:
    """Code for every call in every dtype; calls that differ in run-time sizes alone share theirs.

    Raises InputError if NVRTC is absent, a source does not compile, or its entry point does not fit its launch.
    """
    done = set()
    for call in calls:
        kernel = call.op.kernel
        assert kernel is not None
        for dtype in SCALARS:
            macros = call.launch(dtype).macros
            key = (kernel, tuple(sorted(macros.items())))
            if key in done:
                continue
            done.add(key)
            for architecture in architectures:
                ptx = compile_kernel(kernel.source, architecture.replace("sm_", "compute_"), macros)
                check_entry(kernel, call.launch(dtype), ptx, len(call.op.inputs), len(call.op.outputs))
                cubin = compile_kernel(kernel.source, architecture, macros)
                yield CompiledKernel(call, dtype, architecture, ptx.rstrip(b"\0"), cubin)


def write_kernels(kernels: Iterable[CompiledKernel], folder: Path) -> None:
    """Write PTX and cubin files, named as in the user's cache, and an index that tells what each is for."""
    index = []
    for compiled in kernels:
        kernel, macros = compiled.call.op.kernel, compiled.call.launch(compiled.dtype).macros
        assert kernel is not None
        cubin = folder / code_name(kernel.source, compiled.architecture, macros)
        cubin.write_bytes(compiled.cubin)
        cubin.with_suffix(".ptx").write_bytes(compiled.ptx)
        index.append(
            {
                "op": compiled.call.op.name,
                "entry": kernel.entry,
                "inputs": compiled.call.shapes,
                "attributes": compiled.call.attributes,
                "dtype": compiled.dtype,
                "architecture": compiled.architecture,
                "macros": macros,
                "cubin": cubin.name,
                "ptx": cubin.with_suffix(".ptx").name,
            }
        )
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
