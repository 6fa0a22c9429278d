"""Bodies of custom ops that are recorded from Python."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx_ir import Value
from onnxscript import OpBuilder
from torch import Tensor

from toolkit.ops.bodies import attach_bodies
from toolkit.ops.spec import CustomOp
from toolkit.ops.traced_body import NodeAttributes, TracedBody, reshape, sizes


@torch.library.custom_op("uniad_tests::power", mutates_args=())
def power(x: Tensor, exponent: int, shifts: Sequence[int], scale: float) -> Tensor:
    """The sum of (x + shift) to the integer `exponent` over the shifts, times `scale`."""
    return torch.stack([(x + shift) ** exponent for shift in shifts]).sum(0) * scale


def recorded(op: OpBuilder, attributes: NodeAttributes, x: Value) -> Value:
    """A loop over the exponent, which Python decides by; shifts are looked up when the function runs."""
    shifted = op.Unsqueeze(x, [-1]) + op.CastLike(attributes.tensor("shifts"), x)
    product = shifted
    for _ in range(attributes["exponent"] - 1):
        product = product * shifted
    return op.ReduceSum(product, [-1], keepdims=0) * attributes["scale"]


POWER = CustomOp("Power", power, TracedBody(recorded))


def text_of(op: CustomOp, **attributes: Any) -> str:
    return onnx.printer.to_text(op.function(attributes))


def model_of(element_type: int, *nodes: dict[str, Any]) -> onnx.ModelProto:
    """Nodes side by side, each with the attributes given, on one input."""
    calls = [
        onnx.helper.make_node("Power", ["x"], [f"y{i}"], domain="uniad", **attributes)
        for i, attributes in enumerate(nodes)
    ]
    outputs = [onnx.helper.make_tensor_value_info(f"y{i}", element_type, [2, 3]) for i in range(len(nodes))]
    graph = onnx.helper.make_graph(
        calls, "graph", [onnx.helper.make_tensor_value_info("x", element_type, [2, 3])], outputs
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("uniad", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    attach_bodies(model, [POWER])
    return model


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_it_computes_the_same_as_torch_in_both_precisions(dtype: type[np.floating[Any]]) -> None:
    """Numbers and attributes take the type of the tensor beside them."""
    import onnxruntime

    x = np.arange(6, dtype=dtype).reshape(2, 3)
    model = model_of(
        onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), {"exponent": 3, "shifts": [0, 2], "scale": 0.5}
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    [output] = session.run(None, {"x": x})
    assert output.dtype == dtype
    np.testing.assert_array_equal(output, power(torch.from_numpy(x), 3, [0, 2], 0.5))


def test_loops_of_python_are_unrolled() -> None:
    text = text_of(POWER, exponent=4, shifts=[1], scale=1.0)
    assert len(re.findall(r" Mul \(", text)) == 4
    assert "Loop" not in text


def test_nodes_share_what_is_read_when_it_runs() -> None:
    """Shifts are an attribute of the node; exponent and scale were decided by when the body was recorded."""
    shared = model_of(1, *({"exponent": 2, "shifts": shifts, "scale": 1.0} for shifts in ([1], [2, 3])))
    assert [node.overload for node in shared.graph.node] == ["", ""]
    several = model_of(1, *({"exponent": exponent, "shifts": [1], "scale": 1.0} for exponent in (2, 3)))
    assert [node.overload for node in several.graph.node] == ["form_1", "form_2"]


def test_recording_is_repeatable() -> None:
    """Nodes with equal attributes must get equal functions, to the byte."""
    attributes = {"exponent": 2, "shifts": [1], "scale": 1.0}
    first, second = (POWER.function(attributes).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_an_input_given_back_is_copied() -> None:
    """A function's output must not be its input."""
    function = CustomOp("Power", power, TracedBody(lambda op, attributes, x: x)).function({})
    assert [(node.op_type, *node.input, *node.output) for node in function.node] == [("Identity", "x", "output")]


def test_arithmetic_of_values_ends_with_the_recording() -> None:
    """Also where the body fails: `x` is then a value without a recorder again."""

    def failing(op: OpBuilder, attributes: NodeAttributes, x: Value) -> Value:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        CustomOp("Power", power, TracedBody(failing)).function({})
    with pytest.raises(ValueError, match="No magic handler"):
        ir.Value(name="x") * 2


def test_sizes_and_reshape_keep_empty_tensors() -> None:
    """A size of zero is a size, not the old one's place holder."""
    import onnxruntime

    @torch.library.custom_op("uniad_tests::merged", mutates_args=())
    def merged(x: Tensor) -> Tensor:
        return x.flatten(0, 1)

    def body(op: OpBuilder, attributes: NodeAttributes, x: Value) -> Value:
        rows, columns, depth = sizes(op, x, 3)
        return reshape(op, x, rows * columns, depth)

    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Merged", ["x"], ["y"], domain="uniad")],
        "graph",
        [info("x", 1, ["a", "b", "c"])],
        [info("y", 1, ["ab", "c"])],
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("uniad", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    attach_bodies(model, [CustomOp("Merged", merged, TracedBody(body))])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in ((2, 3, 4), (2, 0, 4), (0, 3, 4)):
        assert session.run(None, {"x": np.zeros(shape, np.float32)})[0].shape == (shape[0] * shape[1], shape[2])


def test_a_text_serves_as_well() -> None:
    """In the syntax of onnx.parser, made from the node's attributes."""
    text = """
    <domain: "uniad", opset_import: ["" : 18]>
    Power <exponent, shifts, scale> (x) => (output) { output = Neg (x) }
    """
    function = CustomOp("Power", power, lambda attributes: text).function({})
    assert [node.op_type for node in function.node] == ["Neg"]
