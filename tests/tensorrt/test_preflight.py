"""Nodes that TensorRT lacks are found before its parser is asked, all at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, NodeProto, TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from toolkit.engines.tensorrt.library import Target
from toolkit.engines.tensorrt.preflight import require_supported, unsupported_nodes
from toolkit.errors import InputError

BOOL = make_tensor_value_info("b", TensorProto.BOOL, [])


def model(*nodes: NodeProto) -> onnx.ModelProto:
    """A model of these nodes with constants `few` = 10 and `many` = 5000; it need not be valid."""
    constants = [onnx.numpy_helper.from_array(np.array([n]), name) for name, n in (("few", 10), ("many", 5000))]
    return make_model(make_graph(nodes, "graph", [BOOL], [], constants), opset_imports=[make_opsetid("", 18)])


def found(target: Target, *nodes: NodeProto) -> list[str]:
    """What a target lacks, where the parser knows all but `Det` and there is a plugin for `Known`."""
    return [
        entry.what
        for entry in unsupported_nodes(
            model(*nodes), target, lambda op: op != "Det", lambda node: node.op_type == "Known"
        )
    ]


@pytest.mark.parametrize(
    ("node", "tensorrt", "rtx"),
    [
        (make_node("MatMul", ["x", "y"], ["z"]), "", ""),
        (make_node("Det", ["x"], ["y"]), "Det", "Det"),
        (make_node("NonZero", ["x"], ["y"]), "", "NonZero"),
        (make_node("NonMaxSuppression", ["x", "y"], ["z"]), "", "NonMaxSuppression"),
        (make_node("RoiAlign", ["x", "y", "z"], ["w"]), "", "RoiAlign"),
        (make_node("TopK", ["x", "few"], ["v", "i"]), "", ""),
        (make_node("TopK", ["x", "k"], ["v", "i"]), "", ""),
        (make_node("TopK", ["x", "many"], ["v", "i"]), "TopK of 5000 (at most 3840)", "TopK of 5000 (at most 3840)"),
        (make_node("ScatterND", ["x", "i", "u"], ["y"]), "", ""),
        (
            make_node("ScatterND", ["x", "i", "u"], ["y"], reduction="add"),
            "ScatterND with reduction add",
            "ScatterND with reduction add",
        ),
        (
            make_node("ScatterElements", ["x", "i", "u"], ["y"], reduction="max"),
            "",
            "ScatterElements with reduction max",
        ),
        (make_node("Known", ["x"], ["y"], domain="mmdeploy"), "", ""),
        (make_node("Other", ["x"], ["y"], domain="mmdeploy"), "mmdeploy::Other", "mmdeploy::Other"),
        (make_node("Rotate", ["x"], ["y"], domain="uniad"), "", ""),
    ],
    ids=lambda value: value.op_type if isinstance(value, NodeProto) else "",
)
def test_nodes(node: NodeProto, tensorrt: str, rtx: str) -> None:
    assert found(Target.TENSORRT, node) == [tensorrt] * bool(tensorrt)
    assert found(Target.TENSORRT_RTX, node) == [rtx] * bool(rtx)


def test_nodes_of_a_branch() -> None:
    branch = make_graph([make_node("Det", ["x"], ["y"])], "branch", [], [])
    assert found(Target.TENSORRT, make_node("If", ["b"], ["z"], then_branch=branch, else_branch=branch)) == ["Det"] * 2


def test_function_is_judged_by_its_nodes() -> None:
    """Not by its own name, which no parser knows."""
    functional = model(make_node("Ours", ["x"], ["y"], domain="my"))
    shape = make_node("Constant", [], ["s"])
    shape.attribute.append(AttributeProto(name="value_ints", type=AttributeProto.INTS, ref_attr_name="shape"))
    body = [shape, make_node("Det", ["x"], ["y"], name="planning/det")]
    functional.functions.append(
        onnx.helper.make_function("my", "Ours", ["x"], ["y"], body, [make_opsetid("", 18), make_opsetid("my", 1)])
    )
    nodes = unsupported_nodes(functional, Target.TENSORRT, lambda op: op != "Det", lambda node: False)
    assert [(entry.node, entry.submodule, entry.what) for entry in nodes] == [("planning/det", "planning", "Det")]


def test_message_lists_all_by_submodule() -> None:
    nodes = [
        make_node("NonZero", ["x"], ["y"], name="/tracking/masks/NonZero_1"),
        make_node("NonZero", ["x"], ["z"], name="/tracking/masks/NonZero_2"),
        make_node("Det", ["x"], ["w"], name="/tracking/Det"),
        make_node("Det", ["x"], ["v"], name="Det_7"),
    ]
    with pytest.raises(InputError) as failure:
        require_supported(model(*nodes), Path("m.onnx"), Target.TENSORRT_RTX, lambda op: op != "Det", lambda node: True)
    assert str(failure.value) == (
        "TensorRT for RTX lacks 4 of the nodes of m.onnx: "
        "tracking: 2 NonZero, Det (first '/tracking/masks/NonZero_1'); "
        "no submodule: Det (first 'Det_7'); replace them, see `uniad-toolkit rewrite --list`"
    )


ZEROS = {"zero": np.zeros(1, np.int8), "shifted": np.array([3], np.int8), "unsigned": np.array([128], np.uint8)}


@pytest.mark.parametrize(
    ("zero_point", "what"),
    [("zero", []), ("shifted", ["QuantizeLinear with zero points"]), ("unsigned", ["QuantizeLinear of uint8"])],
)
def test_quantization_is_symmetric_and_signed(zero_point: str, what: list[str]) -> None:
    """The remedy is in the quantizer's words."""
    quantized = model(make_node("QuantizeLinear", ["x", "s", zero_point], ["y"], name="q"))
    quantized.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in ZEROS.items())
    listed = unsupported_nodes(quantized, Target.TENSORRT_RTX, lambda op: True, lambda node: True)
    assert [entry.what for entry in listed] == what
    if what:
        with pytest.raises(InputError, match=r'quantize symmetrically and to int8 .*"ActivationSymmetric": True'):
            require_supported(quantized, Path("q.onnx"), Target.TENSORRT_RTX, lambda op: True, lambda node: True)
