"""A submodule in parts: what can run before its late inputs are there, what others wait for, and the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from toolkit.engines.gpu.compiled.passes.use_linear import use_linear
from toolkit.engines.gpu.compiled.split import Part, split_at
from toolkit.precision import Precision

Tensors = tuple[Tensor, ...]
OURS = torch.ops.uniad_gpu


class Function(nn.Module):
    """A function of tensors with two layers, `first` and `second`, and a constant, `table`."""

    table: Tensor

    def __init__(self, function: Callable[..., Tensors | Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)
        self.register_buffer("table", torch.randn(4, 32))
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensors | Tensor:
        return self.function(self, *inputs)


def split(
    function: Callable[..., Tensors | Tensor],
    outputs: tuple[str, ...],
    *,
    late: Collection[str] = ("late",),
    awaited: Collection[str] = (),
) -> list[Part]:
    """The parts of a function of `early` and `late`; together, they must give what it gives."""
    inputs = {"early": torch.randn(4, 32), "late": torch.randn(4, 32)}
    gm = torch.export.export(Function(function).eval(), tuple(inputs.values()), strict=False).module()
    assert isinstance(gm, GraphModule)
    use_linear(gm, Precision.FP32)
    gm.recompile()
    returned = gm(*inputs.values())
    expected = dict(zip(outputs, returned if isinstance(returned, tuple) else (returned,), strict=True))
    parts = split_at(gm, tuple(inputs), outputs, late, awaited)
    tensors: dict[str, Tensor] = dict(inputs)
    produced: dict[str, Tensor] = {}
    for part in parts:
        given = part.module(*(tensors[name] for name in part.inputs))
        assert all(isinstance(tensor, Tensor) for tensor in given)
        new = dict(zip(part.outputs, given if isinstance(given, tuple) else (given,), strict=True))
        produced |= new
        tensors |= new
    assert_equal({name: produced[name] for name in outputs}, expected)
    return parts


def assert_equal(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name


def layers(part: Part) -> int:
    return sum(node.target is OURS.linear.default for node in part.module.graph.nodes)


def test_what_needs_no_late_input_goes_first() -> None:
    """Constants come along to where they are read; what passes between the parts is named after its node."""

    def function(m: Any, early: Tensor, late: Tensor) -> Tensor:
        result: Tensor = m.second(m.first(early + m.table).sigmoid() + late) + m.table
        return result

    first, rest = split(function, ("result",))
    assert (first.inputs, first.outputs) == (("early",), ("sigmoid of result",))
    assert (rest.inputs, rest.outputs) == (("sigmoid of result", "late"), ("result",))
    assert (layers(first), layers(rest)) == (1, 1)


def test_a_result_may_be_ready_early() -> None:
    """And be read by the rest."""

    def function(m: Any, early: Tensor, late: Tensor) -> Tensors:
        value = m.first(early)
        return late * 2, value, value + late

    first, rest = split(function, ("doubled", "value", "sum"))
    assert (first.outputs, rest.outputs) == (("value",), ("doubled", "sum"))
    assert rest.inputs == ("late", "value")


def test_results_may_be_inputs_or_constants() -> None:
    """Each keeps its own name, whatever it is called as an input."""

    def function(m: Any, early: Tensor, late: Tensor) -> Tensors:
        return m.first(early) + late, early, late, m.table

    first, rest = split(function, ("sum", "same early", "same late", "constant"))
    assert first.inputs == ("early",)
    assert first.outputs == ("same early", "constant", "linear_default of sum")
    assert rest.outputs == ("sum", "same late")


def test_one_value_may_be_several_results() -> None:
    def function(m: Any, early: Tensor, late: Tensor) -> Tensors:
        value, total = m.first(early), early + late
        return value, value, total, total

    first, rest = split(function, ("value", "value again", "total", "total again"))
    assert first.outputs == ("value", "value again")
    assert rest.outputs == ("total", "total again")


def test_one_part_where_nothing_worthwhile_is_early_or_nothing_is_late() -> None:
    """A sum without a layer is not worth a launch; a function that reads no late input can wait for none."""

    def cheap(m: Any, early: Tensor, late: Tensor) -> Tensor:
        result: Tensor = m.first((early + 1) * late)
        return result

    def early_alone(m: Any, early: Tensor, late: Tensor) -> Tensor:
        result: Tensor = m.first(early)
        return result

    for function in (cheap, early_alone):
        (part,) = split(function, ("result",))
        assert (part.inputs, part.outputs) == (("early", "late"), ("result",))


def test_what_others_wait_for_goes_before_the_rest() -> None:
    """With all that it needs, and nothing that it does not."""

    def function(m: Any, early: Tensor, late: Tensor) -> Tensors:
        shared = m.first(early + late)
        return m.second(shared.relu()), shared * 2, shared.relu() + m.table

    first, rest = split(function, ("slow", "awaited", "other"), awaited={"awaited"})
    assert (first.inputs, first.outputs) == (("early", "late"), ("awaited", "linear_default of slow"))
    assert (rest.inputs, rest.outputs) == (("linear_default of slow",), ("slow", "other"))
    assert (layers(first), layers(rest)) == (1, 1)


def test_three_parts() -> None:
    def function(m: Any, early: Tensor, late: Tensor) -> Tensors:
        before = m.first(early)
        awaited = m.second(before + late)
        return m.first(awaited + before), awaited, m.table

    first, second, third = split(function, ("last", "awaited", "constant"), awaited={"awaited", "constant"})
    assert (first.inputs, first.outputs) == (("early",), ("constant", "linear_default of last"))
    assert (second.inputs, second.outputs) == (("linear_default of last", "late"), ("awaited",))
    assert (third.inputs, third.outputs) == (("awaited", "linear_default of last"), ("last",))


def test_a_function_that_waits_for_nothing_still_gives_first_what_others_wait_for() -> None:
    def function(m: Any, early: Tensor, late: Tensor) -> Tensors:
        value = m.first(early)
        return m.second(value), value + late

    first, rest = split(function, ("slow", "awaited"), late=(), awaited={"awaited"})
    assert (first.outputs, rest.outputs) == (("awaited", "linear_default of slow"), ("slow",))


def test_one_part_where_the_rest_or_what_is_awaited_is_cheap() -> None:
    def cheap_rest(m: Any, early: Tensor, late: Tensor) -> Tensors:
        value = m.first(early + late)
        return value, value + 1

    def cheap_awaited(m: Any, early: Tensor, late: Tensor) -> Tensors:
        return early + late, m.first(early + late)

    for function in (cheap_rest, cheap_awaited):
        (part,) = split(function, ("awaited", "other"), awaited={"awaited"})
        assert part.outputs == ("awaited", "other")


def test_only_tensors_pass_from_part_to_part() -> None:
    """All elements of what an operator gives together are where it is."""

    def function(m: Any, early: Tensor, late: Tensor) -> Tensors:
        values, order = m.first(early + late).topk(2)
        return m.second(m.table * order[:, :1]), values

    first, rest = split(function, ("slow", "awaited"), awaited={"awaited"})
    assert (first.outputs, rest.inputs) == (("awaited", "getitem_1 of slow"), ("getitem_1 of slow",))
