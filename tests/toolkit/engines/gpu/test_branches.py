"""Branches of a part's graph that are parts of their own, and what stays together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from toolkit.engines.gpu.compiled.branches import spread
from toolkit.engines.gpu.compiled.passes.use_linear import use_linear
from toolkit.engines.gpu.compiled.split import Part
from toolkit.precision import Precision

Tensors = tuple[Tensor, ...]
OURS = torch.ops.uniad_gpu


class Chains(nn.Module):
    """A function of a tensor and of `chain(n, x)`, n layers in a row."""

    def __init__(self, function: Callable[[Chains, Tensor], Tensors]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(24))
        self.function = function
        self.used = 0

    def chain(self, count: int, x: Tensor) -> Tensor:
        for layer in self.layers[self.used : self.used + count]:
            x = layer(x)
        self.used += count
        return x

    def forward(self, x: Tensor) -> Tensors:
        self.used = 0
        return self.function(self, x)


def parts_of(function: Callable[[Chains, Tensor], Tensors]) -> list[Part]:
    """Run one after the other, they give what the function gives; none has a part without tensors."""
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(1))
    gm = torch.export.export(Chains(function).eval(), (x,), strict=False).module()
    assert isinstance(gm, GraphModule)
    use_linear(gm, Precision.FP32)
    gm.recompile()
    expected = gm(x)
    names = tuple(f"out {number}" for number in range(len(expected)))
    parts = spread(Part(gm, ("x",), names))
    tensors = {"x": x}
    for part in parts:
        given = part.module(*(tensors[name] for name in part.inputs))
        assert all(isinstance(tensor, Tensor) for tensor in given)
        tensors |= dict(zip(part.outputs, given, strict=True))
    assert all(torch.equal(tensors[name], wanted) for name, wanted in zip(names, expected, strict=True))
    return parts


def layers(part: Part) -> int:
    return sum(node.target is OURS.linear.default for node in part.module.graph.nodes)


def waits_for(part: Part, other: Part) -> bool:
    return bool(set(part.inputs).intersection(other.outputs))


def test_a_branch_runs_beside_the_longest_path() -> None:
    """Two layers, then four beside six, then one that reads both."""
    parts = parts_of(lambda m, x: (m.chain(1, m.chain(6, y := m.chain(2, x)) + m.chain(4, y)),))
    assert sorted(map(layers, parts)) == [1, 2, 4, 6]
    first, *beside, last = parts
    assert (layers(first), layers(last)) == (2, 1)
    assert not waits_for(beside[0], beside[1])
    assert not waits_for(beside[1], beside[0])
    assert all(waits_for(part, first) and waits_for(last, part) for part in beside)


def test_a_branch_that_nothing_comes_back_from() -> None:
    parts = parts_of(lambda m, x: (m.chain(6, y := m.chain(2, x)), m.chain(4, y)))
    assert sorted(map(layers, parts)) == [2, 4, 6]


def test_branches_of_branches_go_in_an_order_that_never_waits_for_itself() -> None:
    """As in a decoder: each layer refines what its branch gave the one before."""

    def decoder(m: Chains, x: Tensor) -> Tensors:
        refined = x.sigmoid()
        for _ in range(3):
            refined = (m.chain(3, x) + refined.log()).sigmoid()
            x = m.chain(1, m.chain(4, x) + refined)
        return x, refined

    parts = parts_of(decoder)
    assert sum(map(layers, parts)) == 24
    assert sum(layers(part) == 3 for part in parts) == 3


def test_what_is_of_several_tensors_stays_with_them() -> None:
    """Only tensors pass from part to part."""

    def function(m: Chains, x: Tensor) -> Tensors:
        largest = m.chain(2, x).max(0)
        return m.chain(6, m.chain(1, largest[0][None])) + m.chain(4, largest[0][None]), largest[1]

    parts_of(function)


@pytest.mark.parametrize(("beside", "count"), [(2, 1), (3, 4)])
def test_short_branches_stay(beside: int, count: int) -> None:
    """A launch takes about 4 µs, and a fork and a join a few of them."""
    parts = parts_of(lambda m, x: (m.chain(1, m.chain(6, y := m.chain(2, x)) + m.chain(beside, y)),))
    assert len(parts) == count


def test_a_graph_without_branches_stays() -> None:
    (part,) = parts_of(lambda m, x: (m.chain(9, x),))
    assert (part.inputs, part.outputs) == (("x",), ("out 0",))
