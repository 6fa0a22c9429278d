"""A part that is read in another process gives torch.compile's bits without torch's compiler being imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.gpu.test_fused_parts import SHAPE, Block
from tests.toolkit.engines.gpu.test_parts_file import IDENTITY
from toolkit.engines.gpu.compiled.ahead import PartsJob, processes_for
from toolkit.engines.gpu.compiled.direct import SUFFIX
from toolkit.engines.gpu.compiled.export import export_graph
from toolkit.engines.gpu.compiled.fused import FusedPart, no_workers
from toolkit.engines.gpu.compiled.parts_file import read_parts, write_parts
from toolkit.engines.gpu.compiled.pipeline import optimize
from toolkit.engines.gpu.compiled.rewrite import RewrittenPart
from toolkit.precision import Precision

READ = """
import sys
from pathlib import Path
import torch
from toolkit.engines.gpu.compiled.fused import FusedPart
from toolkit.engines.gpu.compiled.parts_file import read_parts
folder = Path(sys.argv[1])
(part,) = read_parts(folder / "parts", {"of": "a test"}, torch.device("cuda"))
fused, x = FusedPart(part.module, "0", folder / "compiled"), torch.load(folder / "x")
with torch.inference_mode():
    found = fused(x.clone())
    moved = torch.empty(x.numel() + 1, device="cuda")[1:].view(x.shape).copy_(x)
    assert moved.data_ptr() % 16
    again = fused(moved)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = fused(moved)
    for output in captured:
        output.fill_(7)
    graph.replay()
torch.save([list(outputs) for outputs in (found, again, captured)], folder / "found")
print(*(name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules))
"""


class Layers(nn.Module):
    """A part with kernels of the toolkit's own, of Inductor's and of a library, and an input that it gives back."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.layer = Block(), nn.Linear(SHAPE[1], SHAPE[1])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.layer(x).relu()
        total, column = self.block(y)
        return total, column, y[:18, :18] @ x[:18, :18], x.T[5:], x


def test_no_compiler_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    torch.manual_seed(0)
    x = torch.randn(SHAPE, device="cuda")
    module = export_graph(Layers().cuda().eval(), (x,))
    optimize(module, Precision.FP16)
    outputs = ("total", "column", "product", "turned", "same")
    made = RewrittenPart("layers", Precision.FP16, module, ("x",), outputs)
    write_parts(tmp_path / "parts", [made], IDENTITY)
    parts = read_parts(tmp_path / "parts", IDENTITY, torch.device("cuda"))
    folder = tmp_path / "compiled"
    inputs = (("x", SHAPE, "float32"),)
    job = PartsJob(tmp_path, Precision.FP32, "cuda", tmp_path / "parts", tuple(IDENTITY.items()), folder, inputs)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    with processes_for(job) as processes:
        processes.compile(parts)
    assert {path.suffix for path in folder.iterdir()} == {".bin", SUFFIX, ""}, [
        path.read_text() for path in folder.glob("*.reason")
    ]
    with torch.inference_mode(), no_workers():
        here = FusedPart(parts[0].module, "0")(x)
        theirs = torch.compile(parts[0].module.forward, dynamic=False, fullgraph=True)(x)
    torch.save(x, tmp_path / "x")
    read = subprocess.run([sys.executable, "-c", READ, tmp_path], capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    assert read.stdout.strip() == "", "torch's compiler was imported"
    for found in (here, theirs, *torch.load(tmp_path / "found")):
        assert [output.stride() for output in found] == [output.stride() for output in theirs]
        for one, other in zip(found, theirs, strict=True):
            assert torch.equal(one, other)
