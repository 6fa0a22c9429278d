"""The calls of custom ops, found without computing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from custom_ops.inverse.op import INVERSE
from toolkit.ops.calls import Call, network_calls
from toolkit.ops.precompile import calls_to_compile
from toolkit.ops.spec import CustomOp
from toolkit.plugin.manager import PluginManager
from toolkit.wiring import NetworkGraph


@pytest.fixture(scope="module")
def repeat() -> CustomOp:
    """An op with a default among its attributes."""

    @torch.library.custom_op("uniad::repeat_for_test", mutates_args=())
    def repeat(x: Tensor, times: int, axis: int = 1) -> Tensor:
        return x.repeat_interleave(times, axis)

    return CustomOp("RepeatForTest", repeat, lambda attributes: "")


def test_arguments_by_position_and_name_and_default(repeat: CustomOp) -> None:
    x = torch.zeros(2, 3).T
    calls = [
        Call.of(repeat, (x, 4), {}),
        Call.of(repeat, (x,), {"times": 4, "axis": 1}),
        Call.of(repeat, (x, 4, 1), {}),
    ]
    for call in calls:
        assert (call.shapes, call.strides) == ([(3, 2)], [(1, 3)])
        assert call.attributes == {"times": 4, "axis": 1}


def test_calls_of_a_network(graph: NetworkGraph) -> None:
    """The odometry inverts one rotation."""
    (call,) = network_calls(graph, [INVERSE])
    assert call.op is INVERSE
    assert call.shapes == [(3, 3)]


def test_ops_beyond_the_network_are_compiled_for_their_examples(graph: NetworkGraph, repeat: CustomOp) -> None:
    """Unless they have no example, or no kernel."""
    ops = PluginManager.load().custom_ops()
    without_example = [replace(op, example=None) for op in ops if op.name == "Rotate"]
    others = [op for op in ops if op.name != "Rotate"]
    calls = calls_to_compile(graph, [*others, *without_example, repeat])
    assert {call.op.name for call in calls} == {op.name for op in others}
    assert [call.shapes for call in calls if call.op is INVERSE] == [[(3, 3)]]
