"""Our kernels, compiled by Triton in processes, are those that a network then launches."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from toolkit.engines.gpu.compiled.kernel_calls import OperatorCall, one_for_each_kernel
from toolkit.engines.gpu.compiled.layouts import Layout
from toolkit.engines.gpu.compiled.operators import OF_TRITON


def layout(*shape: int, dtype: torch.dtype = torch.float32, channels_last: bool = False) -> Layout:
    form = torch.channels_last if channels_last else torch.contiguous_format
    return Layout.of(torch.empty(shape, dtype=dtype, device="cuda").to(memory_format=form))


def calls() -> list[OperatorCall]:
    """One of each operator."""
    half, arrived = torch.float16, layout(4096, dtype=torch.int32)
    image, heads = layout(2, 64, 20, 30, channels_last=True), layout(1, 8, 90, 32)
    arguments = {
        "linear": (layout(1, 50, 256), layout(2, 96, 256, dtype=half), layout(96), arrived, True),
        "conv2d": (image, layout(1, 64, 3, 3, 64, dtype=half), layout(64), None, arrived, 1, 1, True, False),
        "matmul": (layout(3, 64, 64), layout(3, 64, 32), "fp32"),
        "sample_taps": (image, layout(2, 18, 20, 30), layout(2, 9, 20, 30), 3, 3, 1, 1, 1, half),
        "attention": (heads, heads, heads, layout(1, 1, 90, 90, dtype=torch.bool), arrived, 0.125, "fp16"),
    }
    assert arguments.keys() == {*OF_TRITON.values()}
    return [OperatorCall(name, given) for name, given in arguments.items()]


def find() -> list[OperatorCall]:
    return one_for_each_kernel([*calls(), *calls()], "cuda")


def launch(call: OperatorCall) -> None:
    call.repeat("cuda")
    torch.cuda.synchronize()


def test_nothing_is_left_to_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a process calls operators for which another one compiled what they launch."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as calling, ProcessPoolExecutor(1, context) as compiling:
        found = calling.submit(find).result()
        assert found == calls()
        assert not list(tmp_path.rglob("*.cubin"))
        list(compiling.map(launch, found))
        compiled = set(tmp_path.rglob("*.cubin"))
        assert len(compiled) == len(found)
        list(calling.map(launch, found))
    assert set(tmp_path.rglob("*.cubin")) == compiled
