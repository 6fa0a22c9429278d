"""What Inductor makes of a part without torch.compile, here or in another process, gives torch.compile's bits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch._inductor
from torch import Tensor, nn

from tests.toolkit.engines.gpu.test_parts_file import IDENTITY, parts_of
from toolkit.engines.gpu.compiled.ahead import PartsJob, processes_for
from toolkit.engines.gpu.compiled.fused import FusedPart, no_workers
from toolkit.engines.gpu.compiled.parts_file import read_parts, write_parts
from toolkit.precision import Precision

SHAPE = (96, 256)


class Block(nn.Module):
    """A norm, pointwise work, a sum over rows, and an output that begins at an address of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(SHAPE[1])
        self.register_buffer("scale", torch.linspace(0.5, 1.5, SHAPE[1]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.norm(x) * self.scale
        y = torch.where(y > 0, y.exp().log1p(), y * 0.1) + x
        return y.softmax(-1).sum(0), y[:, 3]


def test_bits_are_those_of_torch_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    write_parts(tmp_path / "parts", parts_of(Block().cuda(), torch.ones(SHAPE, device="cuda")), IDENTITY)
    parts = read_parts(tmp_path / "parts", IDENTITY, torch.device("cuda"))
    (part,) = parts
    folder = tmp_path / "compiled"
    inputs = (("x", SHAPE, "float32"),)
    job = PartsJob(tmp_path, Precision.FP32, "cuda", tmp_path / "parts", tuple(IDENTITY.items()), folder, inputs)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})  # as many processes as there is work for
    with processes_for(job) as processes:
        processes.compile(parts)
    torch.manual_seed(0)
    x = torch.randn(SHAPE, device="cuda")
    with torch.inference_mode(), no_workers():
        here = FusedPart(part.module, "0")(x)
        theirs = torch.compile(part.module.forward, dynamic=False, fullgraph=True)(x)
        monkeypatch.setattr(torch._inductor, "standalone_compile", None)
        read = FusedPart(part.module, "0", folder)(x)
    for outputs in zip(here, read, theirs, strict=True):
        assert all(torch.equal(output, outputs[0]) for output in outputs)
