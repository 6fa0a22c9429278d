"""Blocks that change nothing in inference become part of a submodule's graph; others stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from toolkit.engines.gpu.compiled.export import export_graph
from toolkit.engines.gpu.compiled.parts_file import read_parts, write_parts
from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, calls
from toolkit.engines.gpu.compiled.pipeline import optimize
from toolkit.engines.gpu.compiled.rewrite import RewrittenPart
from toolkit.engines.gpu.compiled.scopes import WITH_AUTOCAST, WITH_GRADIENTS
from toolkit.precision import Precision


class Within(nn.Module):
    """Two layers, the first of them in blocks."""

    def __init__(self, *blocks: Callable[[], torch.enable_grad | torch.autocast]) -> None:
        super().__init__()
        self.blocks = blocks
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.inside(x, self.blocks)
        return self.last(y.float()), y

    def inside(self, x: Tensor, blocks: tuple[Callable[[], torch.enable_grad | torch.autocast], ...]) -> Tensor:
        if not blocks:
            y: Tensor = self.first(x)
            return y.add_(x)
        with blocks[0]():
            return self.inside(x, blocks[1:]) * 2


def off() -> torch.autocast:
    return torch.autocast("cpu", enabled=False)


def on() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


X = torch.linspace(-1, 1, 12).reshape(3, 4)


def exported(module: nn.Module) -> GraphModule:
    with torch.no_grad():
        return export_graph(module.eval(), (X,))


@pytest.mark.parametrize(
    "blocks", [(torch.enable_grad,), (off,), (off, off), (torch.enable_grad, off), (off, torch.enable_grad)]
)
def test_a_block_becomes_part_of_the_graph(blocks: tuple[Callable[[], torch.enable_grad]], tmp_path: Path) -> None:
    """What it writes in place becomes a value of its own; passes see its layers; the graph can be kept."""
    module = Within(*blocks)
    gm = exported(module)
    assert not calls(gm, WITH_AUTOCAST, WITH_GRADIENTS, Aten.add_.Tensor)
    assert len(calls(gm, Aten.linear.default)) == 2
    with torch.no_grad():
        wanted = module(X)
        assert all(map(torch.equal, gm(X), wanted))
        optimize(gm, Precision.FP32)
        write_parts(tmp_path / "parts", [RewrittenPart("own", Precision.FP32, gm, ("x",), ("a", "b"))], {})
        (part,) = read_parts(tmp_path / "parts", {}, torch.device("cpu"))
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(part.module(X), wanted, strict=True))


@pytest.mark.parametrize("blocks", [(on,), (off, on)])
def test_a_block_under_autocast_stays(blocks: tuple[Callable[[], torch.autocast]], tmp_path: Path) -> None:
    """It cannot be kept, which a line says."""
    module = Within(*blocks)
    gm = exported(module)
    assert calls(gm, WITH_AUTOCAST)
    with torch.no_grad():
        assert all(map(torch.equal, gm(X), module(X)))
    with pytest.raises(ValueError, match=r"a block under torch\.autocast has a graph of its own; cast by `Tensor\.to`"):
        write_parts(tmp_path / "parts", [RewrittenPart("own", Precision.FP32, gm, ("x",), ("a", "b"))], {})
