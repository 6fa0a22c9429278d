"""Values that are no tensors, and attributes of rare kinds, come through the graph that passes edit as they were."""

from __future__ import annotations

import onnx.helper
import onnx.parser
import pytest
from onnx import ModelProto, TensorProto

from tests.graph.rewriting import op_types, text_model
from toolkit.graph.cleanup.common_subexpressions import MERGE_COMMON_SUBEXPRESSIONS
from toolkit.graph.cleanup.constants import FOLD_CONSTANTS
from toolkit.graph.pipeline import run_passes

KINDS = {
    "sequence": "m (seq(float[2, N]) x) => (seq(float[2, N]) y) { y = Identity (x) }",
    "optional": "m (optional(float[2]) x) => (optional(float[2]) y) { y = Identity (x) }",
    "optional sequence": "m (optional(seq(float[2])) x) => (seq(float[2]) y) { y = OptionalGetElement (x) }",
    "between nodes": "m (float[2] x) => (float[2] y) { a = Optional (x) b = Identity (a) y = OptionalGetElement (b) }",
    "map": "m (map(int64, float[2]) x) => (map(int64, float[2]) y) { y = TRT.Foo (x) }",
    "in a loop": """m (int64 n, bool t, seq(float[2]) x) => (seq(float[2]) y) {
        y = Loop (n, t, x) <body = b (int64 i, bool c_in, seq(float[2]) s) => (bool c_out, seq(float[2]) s_out) {
            c_out = Identity (c_in) s_out = Identity (s) }> }""",
}


@pytest.mark.parametrize("text", KINDS.values(), ids=KINDS)
def test_values_of_other_kinds_keep_their_types(text: str) -> None:
    model = text_model(text)
    result = run_passes(model, [], ())[0]
    assert list(result.graph.input) == list(model.graph.input)
    assert list(result.graph.output) == list(model.graph.output)
    for before, after in zip(model.graph.node, result.graph.node, strict=True):
        for attribute, kept in zip(before.attribute, after.attribute, strict=True):
            assert list(kept.g.input) == list(attribute.g.input)
            assert list(kept.g.output) == list(attribute.g.output)


def optional(name: str, elem: int) -> onnx.NodeProto:
    """A node that makes an empty optional tensor of a type."""
    kind = onnx.helper.make_tensor_type_proto(elem, [2])
    return onnx.helper.make_node("Optional", [], [name], type=kind)


def two_optionals(one: int, other: int) -> ModelProto:
    model = text_model("m (float x) => (bool y, bool z) { y = OptionalHasElement (a) z = OptionalHasElement (b) }")
    nodes = [optional("a", one), optional("b", other), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def test_attributes_that_hold_types_are_kept() -> None:
    model = two_optionals(TensorProto.FLOAT, TensorProto.INT64)
    result = run_passes(model, [], ())[0]
    assert [node.attribute for node in result.graph.node] == [node.attribute for node in model.graph.node]


@pytest.mark.parametrize(("other", "left"), [(TensorProto.FLOAT, 1), (TensorProto.INT64, 2)])
def test_nodes_that_differ_by_such_an_attribute_are_not_merged(other: int, left: int) -> None:
    merged, _ = run_passes(two_optionals(TensorProto.FLOAT, other), [MERGE_COMMON_SUBEXPRESSIONS], ())
    assert op_types(merged).count("Optional") == left


def test_sparse_constants_are_kept() -> None:
    model = text_model("m (float[4] x) => (float[4] y) { y = Add (x, c) }")
    values = onnx.helper.make_tensor("c", TensorProto.FLOAT, [1], [3.0])
    sparse = onnx.helper.make_sparse_tensor(values, onnx.helper.make_tensor("i", TensorProto.INT64, [1], [2]), [4])
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["c"], name="constant", sparse_value=sparse))
    assert run_passes(model, [FOLD_CONSTANTS], ())[0].graph.node[0].attribute[0].sparse_tensor == sparse
