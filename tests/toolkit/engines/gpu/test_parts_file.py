"""Rewritten parts come back from a file as they were, and what is no such file is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from toolkit.engines.gpu.compiled.export import export_graph
from toolkit.engines.gpu.compiled.parts_file import UnfitFile, read_parts, write_parts
from toolkit.engines.gpu.compiled.rewrite import RewrittenPart
from toolkit.precision import Precision

CPU = torch.device("cpu")
IDENTITY = {"of": "a test"}


class Layer(nn.Module):
    """Constants of several layouts, and arguments of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(12.0).reshape(3, 4).T, requires_grad=False)
        self.register_buffer("row", torch.arange(8.0)[2:5].expand(2, 3))
        self.register_buffer("nothing", torch.empty(0, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(self.row, Tensor)
        assert isinstance(self.nothing, Tensor)
        product = torch.cat((x @ self.weight, self.row, self.nothing)).to(
            torch.float16, memory_format=torch.contiguous_format
        )
        largest, where = product.max(dim=-1)
        return largest.clamp(float("-inf"), 100.0).float(), torch.zeros((2,), dtype=torch.int64) + where[:2]


def parts_of(module: nn.Module, *examples: Tensor) -> list[RewrittenPart]:
    return [RewrittenPart("layer", Precision.FP32, export_graph(module, examples), ("x",), ("largest", "where"))]


def refused(path: Path, identity: dict[str, str] = IDENTITY) -> str:
    with pytest.raises(UnfitFile) as error:
        read_parts(path, identity, CPU)
    return str(error.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_parts(tmp_path / "parts", parts_of(Layer(), torch.ones(2, 4)), IDENTITY)
    return tmp_path / "parts"


def test_a_part_comes_back_as_it_was(path: Path) -> None:
    """Constants with their layout in memory, arguments with their types, nodes with their names."""
    (wanted,), (found,) = parts_of(Layer(), torch.ones(2, 4)), read_parts(path, IDENTITY, CPU)
    assert (found.submodule, found.precision, found.inputs, found.outputs) == (
        wanted.submodule, wanted.precision, wanted.inputs, wanted.outputs,
    )  # fmt: skip
    for ours, theirs in zip(found.module.graph.nodes, wanted.module.graph.nodes, strict=True):
        assert (ours.op, ours.name, ours.target) == (theirs.op, theirs.name, theirs.target)
        assert repr((ours.args, ours.kwargs)) == repr((theirs.args, theirs.kwargs))
    layouts = {name: (tensor.shape, tensor.stride()) for name, tensor in found.module.named_buffers()}
    assert layouts["weight"] == ((4, 3), (1, 4))
    assert layouts["row"] == ((2, 3), (0, 1))
    x = torch.rand(2, 4)
    for ours, theirs in zip(found.module(x), wanted.module(x), strict=True):
        assert torch.equal(ours, theirs)


def test_parts_that_share_a_constant_share_it_in_the_file(tmp_path: Path) -> None:
    shared = parts_of(Layer(), torch.ones(2, 4)) * 2
    write_parts(tmp_path / "parts", shared, IDENTITY)
    first, second = read_parts(tmp_path / "parts", IDENTITY, CPU)
    assert [x.data_ptr() for x in first.module.buffers()] == [x.data_ptr() for x in second.module.buffers()]


def test_a_constant_goes_back_to_where_it_was(path: Path) -> None:
    """On a GPU there may be numbers that stay with the host; here everything was there."""
    (part,) = read_parts(path, IDENTITY, torch.device("meta"))
    assert {x.device.type for x in part.module.buffers()} == {"cpu"}
    content = path.read_bytes().replace(b'on_host\\": true', b'on_host\\":false')
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toolkit.engines.gpu.compiled.parts_file._digest", lambda text, memory: _said_by(path))
        (part,) = read_parts(path, IDENTITY, torch.device("meta"))
    assert {x.device.type for x in part.module.buffers()} == {"meta"}


def test_another_identity_is_refused(path: Path) -> None:
    assert "another network or version" in refused(path, {"of": "another"})


@pytest.mark.parametrize("place", [0, 200, -1])
def test_a_damaged_one_is_refused(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x55
    path.write_bytes(content)
    assert "damaged" in refused(path) or "does not fit" in refused(path)


def test_a_short_one_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])
    assert refused(path) == "it is damaged"


def test_an_operator_that_is_not_there_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = path.read_bytes().replace(b"aten::matmul.default", b"aten::mat_ul.default")
    path.write_bytes(content)
    monkeypatch.setattr("toolkit.engines.gpu.compiled.parts_file._digest", lambda text, memory: _said_by(path))
    assert "mat_ul" in refused(path)


def test_a_graph_of_other_functions_is_not_written(tmp_path: Path) -> None:
    parts = parts_of(Layer(), torch.ones(2, 4))
    (node,) = (n for n in parts[0].module.graph.nodes if n.target is torch.ops.aten.matmul.default)
    node.target = print
    with pytest.raises(ValueError, match="calls"):
        write_parts(tmp_path / "parts", parts, IDENTITY)


def _said_by(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return str(file.metadata()["sha256"])
