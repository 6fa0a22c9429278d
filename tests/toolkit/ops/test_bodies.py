"""Functions of standard ops behind a model's custom nodes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto
from onnx.helper import make_function, make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from torch import Tensor

from custom_ops.inverse.op import INVERSE
from custom_ops.multi_scale_deformable_attention.op import MULTI_SCALE_DEFORMABLE_ATTENTION
from custom_ops.plugin import uniad_custom_ops
from toolkit.errors import InputError
from toolkit.ops.bodies import attach_bodies, detach_bodies
from toolkit.ops.spec import DOMAIN, VERSION, CustomOp, registered_schemas

pytestmark = pytest.mark.thorough

OPS = uniad_custom_ops()


def model_of(*nodes: NodeProto, opset: int = 18, ir_version: int = 8) -> ModelProto:
    """Inputs are those of the nodes that none of them gives; sizes are left to shape inference."""
    given = {name for node in nodes for name in node.output}
    free = sorted({name for node in nodes for name in node.input} - given)
    graph = make_graph(
        nodes,
        "graph",
        [make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in free],
        [make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [None] * 4)],
    )
    opsets = [make_opsetid("", opset), make_opsetid(DOMAIN, VERSION)]
    return make_model(graph, ir_version=ir_version, opset_imports=opsets)


def attention(name: str, spatial_shapes: list[int]) -> NodeProto:
    inputs = [f"{name}/{tensor}" for tensor in MULTI_SCALE_DEFORMABLE_ATTENTION.inputs]
    return make_node(
        MULTI_SCALE_DEFORMABLE_ATTENTION.name, inputs, [name], name, domain=DOMAIN, spatial_shapes=spatial_shapes
    )


def attention_inputs(spatial_shapes: list[int]) -> tuple[Tensor, ...]:
    """Two queries of one head with two channels, three points a level."""
    generator = torch.Generator().manual_seed(0)
    levels = len(spatial_shapes) // 2
    keys = sum(height * width for height, width in zip(spatial_shapes[::2], spatial_shapes[1::2], strict=True))
    shapes = ((1, keys, 1, 2), (1, 2, 1, 2), (1, 2, 1, 6 * levels), (1, 2, 1, 3 * levels))
    return tuple(torch.rand(shape, generator=generator) for shape in shapes)


def run(model: ModelProto, fed: dict[str, Tensor]) -> NDArray[np.float32]:
    """The only output in ONNX Runtime, of a model that is valid."""
    with registered_schemas(OPS):
        onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    output: NDArray[np.float32] = session.run(None, {name: tensor.numpy() for name, tensor in fed.items()})[0]
    return output


def functions(model: ModelProto) -> list[tuple[str, str]]:
    return [(function.name, function.overload) for function in model.functions]


def test_nodes_share_a_function() -> None:
    """The sizes of the levels are read from the node; only their number is in the function."""
    model = model_of(attention("a", [3, 4]), attention("b", [5, 2]))
    attach_bodies(model, OPS)
    assert functions(model) == [("MultiScaleDeformableAttention", "")]
    assert [node.overload for node in model.graph.node] == ["", ""]
    assert model.ir_version == 8


@pytest.mark.parametrize("opset", [16, 18, 20, 23])
def test_graph_of_two_forms_in_onnx_runtime(opset: int) -> None:
    """Attention on one level and on two, added up, in models of different opsets."""
    sizes = {"one": [3, 4], "two": [3, 4, 2, 2], "one_more": [2, 6]}
    nodes = [attention(name, shapes) for name, shapes in sizes.items()]
    model = model_of(*nodes, make_node("Sum", list(sizes), ["sum"]), opset=opset)
    attach_bodies(model, OPS)
    assert functions(model) == [(nodes[0].op_type, "form_1"), (nodes[0].op_type, "form_2")]
    assert [node.overload for node in model.graph.node] == ["form_1", "form_2", "form_1", ""]
    assert model.ir_version == 10

    inputs = {name: attention_inputs(shapes) for name, shapes in sizes.items()}
    expected = sum(MULTI_SCALE_DEFORMABLE_ATTENTION.torch_op(*inputs[name], sizes[name]) for name in sizes)
    fed = {f"{name}/{tensor}": x for name in sizes for tensor, x in zip(OPS[0].inputs, inputs[name], strict=True)}
    np.testing.assert_allclose(run(model, fed), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("opset", [16, 18, 20, 23])
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_body_serves_models_of_other_opsets(op: CustomOp, opset: int) -> None:
    assert op.example is not None
    arguments = op.example()
    inputs, attributes = arguments[: len(op.inputs)], arguments[len(op.inputs) :]
    node = make_node(op.name, op.inputs, ["y"], domain=DOMAIN, **dict(zip(op.attributes, attributes, strict=True)))
    model = model_of(node, opset=opset)
    for info, tensor in zip(model.graph.input, sorted(op.inputs), strict=True):
        given = inputs[op.inputs.index(tensor)]
        info.CopyFrom(make_tensor_value_info(tensor, TensorProto.FLOAT, given.shape))
    model.graph.output[0].CopyFrom(make_tensor_value_info("y", TensorProto.FLOAT, op.torch_op(*arguments).shape))
    attach_bodies(model, OPS)
    output = run(model, dict(zip(op.inputs, inputs, strict=True)))
    np.testing.assert_allclose(output, op.torch_op(*arguments), rtol=1e-5, atol=1e-4)


def test_node_in_a_subgraph() -> None:
    """A branch of an If, in which ONNX Runtime finds the function too."""
    inverse = make_node("Inverse", ["matrix"], ["inverted"], "in_branch", domain=DOMAIN)
    branches = {
        name: make_graph([node], name, [], [make_tensor_value_info("inverted", TensorProto.FLOAT, [3, 3])])
        for name, node in (
            ("then_branch", inverse),
            ("else_branch", make_node("Identity", ["matrix"], ["inverted"])),
        )
    }
    model = model_of(make_node("If", ["condition"], ["output"], **branches))
    model.graph.input.pop()
    model.graph.input.append(make_tensor_value_info("condition", TensorProto.BOOL, []))
    model.graph.input.append(make_tensor_value_info("matrix", TensorProto.FLOAT, [3, 3]))
    model.graph.output[0].CopyFrom(make_tensor_value_info("output", TensorProto.FLOAT, [3, 3]))
    attach_bodies(model, OPS)
    assert functions(model) == [("Inverse", "")]
    fed = {"condition": torch.tensor(True), "matrix": 2 * torch.eye(3)}
    np.testing.assert_allclose(run(model, fed), 0.5 * np.eye(3))


def test_attaching_anew_follows_the_nodes() -> None:
    """Also after a pass has changed them: no function or overload is left over."""
    model = model_of(attention("a", [3, 4]), attention("b", [3, 4, 2, 2]))
    attach_bodies(model, OPS)
    del model.graph.node[0]
    attach_bodies(model, OPS)
    assert functions(model) == [("MultiScaleDeformableAttention", "")]
    assert model.graph.node[0].overload == ""


def test_detaching_gives_the_plugin_form() -> None:
    """As before, save for the IR version; functions of other domains stay."""
    model = model_of(attention("a", [3, 4]), attention("b", [3, 4, 2, 2]), ir_version=10)
    foreign = make_function(
        "other", "Same", ["x"], ["y"], [make_node("Identity", ["x"], ["y"])], [make_opsetid("", 18)]
    )
    model.functions.append(foreign)
    before = ModelProto.FromString(model.SerializeToString())
    attach_bodies(model, OPS)
    assert len(model.functions) == 3
    detach_bodies(model)
    assert model == before


def test_model_without_custom_nodes_is_left_alone() -> None:
    model = model_of(make_node("Identity", ["x"], ["y"]), opset=9, ir_version=4)
    before = ModelProto.FromString(model.SerializeToString())
    attach_bodies(model, OPS)
    assert model == before


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (model_of(make_node("Foo", ["x"], ["y"], "the_node", domain=DOMAIN)), "node 'the_node' is the custom op 'Foo'"),
        (model_of(make_node("Rotate", list("abc"), ["y"], "the_node", domain=DOMAIN)), "lacks the attribute 'interp"),
        (model_of(make_node("Inverse", ["x"], ["y"], domain=DOMAIN), opset=15), "opset 15 .* export it with opset 16"),
    ],
    ids=["unknown op", "missing attribute", "old opset"],
)
def test_faulty_model(model: ModelProto, message: str) -> None:
    with pytest.raises(InputError, match=message):
        attach_bodies(model, OPS)


def test_domain_is_imported() -> None:
    model = model_of(make_node("Inverse", ["x"], ["y"], domain=DOMAIN))
    del model.opset_import[1]
    attach_bodies(model, [INVERSE])
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18), (DOMAIN, VERSION)]
