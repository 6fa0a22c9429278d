"""The pipeline proves each rewrite, names the pass at fault, and records what was done."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import ModelProto

from tests.graph.rewriting import op_types, rewritten, text_model
from toolkit.errors import CheckFailed, InputError
from toolkit.graph.equivalence import difference
from toolkit.graph.graph_pass import Change, GraphPass, Outcome
from toolkit.graph.pipeline import rewrite
from toolkit.graph.random_inputs import random_inputs
from toolkit.plugin.manager import PluginManager

pytestmark = pytest.mark.thorough

OPS = PluginManager.load().custom_ops()
RELU = "m (float[2] x) => (float[2] y) { a = Relu (x) y = Exp (a) }"
INVERSE = "m (float[2, 3, 3] x) => (float[2, 3, 3] y) { y = uniad.Inverse (x) }"


def edit(name: str, apply: Callable[[gs.Graph], Any], **options: Any) -> GraphPass:
    """A pass that claims one change."""

    def applied(graph: gs.Graph) -> Outcome:
        apply(graph)
        return Outcome((Change("a node", "edited"),))

    return GraphPass(name, "for a test", applied, **options)


def set_op(index: int, op: str) -> Callable[[gs.Graph], None]:
    def apply(graph: gs.Graph) -> None:
        graph.nodes[index].op = op

    return apply


def insert_identity(graph: gs.Graph) -> None:
    """Between the first node and the second; the new node comes last in the list."""
    made = gs.Variable("made")
    graph.nodes.append(gs.Node("Identity", "new", inputs=[graph.nodes[0].outputs[0]], outputs=[made]))
    graph.nodes[1].inputs = [made]


HARMLESS = edit("harmless", insert_identity)


def test_the_model_itself_stays_as_it_is() -> None:
    model = text_model(RELU)
    rewrite(model, [HARMLESS], OPS)
    assert model == text_model(RELU)


def test_nodes_are_sorted_and_the_result_is_proven_equal() -> None:
    result = rewrite(text_model(RELU), [HARMLESS], OPS)
    assert op_types(result.model) == ["Relu", "Identity", "Exp"]
    assert result.checks == ("equal in ONNX Runtime on random inputs: 1 outputs within 0.0e+00 of their largest value",)


def cycle(graph: gs.Graph) -> None:
    graph.nodes[0].inputs = [graph.nodes[1].outputs[0]]


def lose_output(graph: gs.Graph) -> None:
    graph.outputs = []


def rename_output(graph: gs.Graph) -> None:
    graph.outputs[0].name = "other"


def raise_error(graph: gs.Graph) -> None:
    raise KeyError("graph has\nno such thing")


BREAKING = {
    "other values": (set_op(0, "Neg"), "output 'y' differs by"),
    "no such operator": (set_op(0, "Foo"), "ONNX's checker refuses it"),
    "cycle": (cycle, "nodes form a cycle: 'Relu_0'"),
    "no output": (lose_output, "ONNX Runtime cannot run it any more"),
    "renamed output": (rename_output, "output 'y' differs by inf"),
    "error": (raise_error, "KeyError: 'graph has\\nno such thing'"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("apply", "reason"), BREAKING.values(), ids=BREAKING)
def test_a_pass_that_breaks_the_model_is_named(apply: Callable[[gs.Graph], None], reason: str) -> None:
    passes = [HARMLESS, edit("culprit", apply), edit("innocent", lambda graph: None)]
    with pytest.raises(CheckFailed) as failure:
        rewrite(text_model(RELU), passes, OPS)
    assert str(failure.value).startswith("pass 'culprit' ")
    assert reason in str(failure.value)
    assert "\n" not in str(failure.value)


def test_two_roundings_of_its_type_are_always_allowed() -> None:
    """A fused node rounds less often than the nodes it replaces, which shows in half precision."""

    def scale(graph: gs.Graph) -> None:
        graph.nodes[0].op = "Mul"
        graph.nodes[0].inputs.append(gs.Constant("c", np.array([1.001], graph.inputs[0].dtype)))

    passes = [edit("rounds otherwise", scale)]
    half = text_model("m (float16[2] x) => (float16[2] y) { y = Identity (x) }")
    assert "equal in ONNX Runtime" in rewrite(half, passes, OPS).checks[0]
    with pytest.raises(CheckFailed, match="1e-04 is allowed"):
        rewrite(text_model("m (float[2] x) => (float[2] y) { y = Identity (x) }"), passes, OPS)


def test_within_its_tolerance_a_pass_may_change_values() -> None:
    def scale(graph: gs.Graph) -> None:
        graph.nodes[1].inputs[0].inputs[0].inputs[0] = graph.inputs[0]
        graph.nodes[0].op = "Mul"
        graph.nodes[0].inputs.append(gs.Constant("c", np.array([1.01], np.float32)))

    model = text_model("m (float[2] x) => (float[2] y) { a = Identity (x) y = Neg (a) }")
    result = rewrite(model, [edit("rough", scale, tolerance=0.02)], OPS)
    assert "within 1.0e-02" in result.checks[0]
    with pytest.raises(CheckFailed, match=r"differs by 1\.0e-02 of its largest value, 1e-03 is allowed"):
        rewrite(model, [edit("rough", scale, tolerance=1e-3)], OPS)


def test_passes_of_another_tolerance_are_compared_apart() -> None:
    def rename(graph: gs.Graph) -> None:
        graph.inputs[0].name, graph.outputs[0].name = "official_x", "official_y"

    boundary = edit("boundary", rename, tolerance=math.inf)
    result = rewrite(text_model(RELU), [HARMLESS, boundary, edit("nothing", lambda graph: None)], OPS)
    assert [check.partition(":")[0] for check in result.checks] == [
        "equal in ONNX Runtime on random inputs",
        "not compared",
        "equal in ONNX Runtime on random inputs",
    ]


def test_what_onnx_runtime_cannot_run_is_not_compared() -> None:
    model = text_model("m (float[2] x) => (float[2] y) { a = TRT.Foo (x) y = Relu (a) }")
    [check] = rewrite(model, [HARMLESS], OPS).checks
    assert check.startswith("not compared: ONNX Runtime cannot run the model")


def test_a_model_that_the_checker_refuses_is_not_blamed_on_a_pass() -> None:
    model = text_model("m (float[2] x) => (float[2] y) { a = NotThere (x) y = Relu (a) }")
    assert op_types(rewrite(model, [HARMLESS], OPS).model) == ["NotThere", "Identity", "Relu"]


def test_new_nodes_and_the_model_say_which_pass_made_them() -> None:
    model, _ = rewritten(RELU, HARMLESS)
    made = {node.name: {entry.key: entry.value for entry in node.metadata_props} for node in model.graph.node}
    assert made == {"Relu_0": {}, "Exp_1": {}, "new": {"uniad.pass": "harmless"}}
    [record] = passes_of(model)
    assert {key: record[key] for key in ("pass", "changes", "nodes_before", "nodes_after")} == {
        "pass": "harmless",
        "changes": 1,
        "nodes_before": 2,
        "nodes_after": 3,
    }


def test_a_second_rewrite_adds_to_the_record() -> None:
    first, _ = rewritten(RELU, HARMLESS)
    other = edit("other", lambda graph: None)
    second, _ = rewritten(first, other)
    assert [record["pass"] for record in passes_of(second)] == ["harmless", "other"]


def passes_of(model: ModelProto) -> list[dict[str, Any]]:
    [value] = [entry.value for entry in model.metadata_props if entry.key == "uniad.passes"]
    records: list[dict[str, Any]] = json.loads(value)
    return records


def test_what_a_graph_does_not_hold_is_kept() -> None:
    """Descriptions, metadata, symbolic dimensions, the producer and versions."""
    model = text_model("m (float[N, 2] x) => (float[N, 2] y) { y = Relu (x) }")
    model.producer_name, model.producer_version, model.doc_string = "somebody", "1.2", "a model"
    model.domain, model.model_version, model.graph.doc_string = "org.somebody", 7, "a graph"
    onnx.helper.set_model_props(model, {"author": "somebody"})
    onnx.helper.set_model_props(model.graph.node[0], {"scope": "layer1"})
    model.graph.input[0].doc_string, model.graph.node[0].doc_string = "an input", "a node"
    model.graph.node[0].name = "the_node"
    del model.opset_import[1:]
    assert rewrite(model, [], OPS).model == model


def test_old_models_with_weights_among_the_inputs() -> None:
    model = text_model("m (float[2] x, float[2] w) => (float[2] y) { y = Add (x, w) }", w=np.ones(2, np.float32))
    model.ir_version = 3
    result, _ = rewritten(model, edit("nothing", lambda graph: None))
    assert [value.name for value in result.graph.input] == ["x"]


def test_empty_lists_among_the_attributes_are_kept() -> None:
    model = text_model("m (float x) => (float y) { y = Transpose <perm: ints = []> (x) }")
    result, _ = rewritten(model, edit("nothing", lambda graph: None))
    assert result.graph.node[0].attribute == model.graph.node[0].attribute


@pytest.mark.parametrize("dtype", [onnx.TensorProto.BFLOAT16, onnx.TensorProto.INT4])
def test_weights_of_types_that_numpy_lacks(dtype: int) -> None:
    model = text_model("m (float[300] x) => (float[300] y) { c = Cast <to = 1> (w) y = Add (x, c) }")
    model.graph.initializer.append(onnx.helper.make_tensor("w", dtype, [300], np.arange(300) % 8))
    model.opset_import[0].version = 21
    result, _ = rewritten(model, edit("nothing", lambda graph: None))
    assert result.graph.initializer[0].data_type == dtype


def test_outputs_without_a_finite_number_are_pointed_out() -> None:
    model = text_model("m (float[2] x) => (float[2] y) { a = Abs (x) n = Neg (a) y = Log (n) }")
    [check] = rewrite(model, [], OPS).checks
    assert check.endswith("; of no account are 1 that hold no finite number, such as 'y'")


def test_functions_are_inlined_except_ours() -> None:
    model = text_model("m (float[3, 3] x) => (float[3, 3] y) { a = TRT.Twice (x) y = uniad.Inverse (a) }")
    twice = '<domain: "TRT", opset_import: ["" : 18]> Twice (x) => (y) { y = Add (x, x) }'
    model.functions.append(onnx.parser.parse_function(twice))
    result, _ = rewritten(model, edit("nothing", lambda graph: None))
    assert op_types(result) == ["Add", "Inverse"]
    assert [(function.domain, function.name) for function in result.functions] == [("uniad", "Inverse")]
    assert [entry.domain for entry in result.opset_import] == ["", "uniad"]


def test_the_plugin_form_has_no_functions() -> None:
    functional = rewrite(text_model(INVERSE), [], OPS).model
    plugin = rewrite(functional, [], OPS, form="plugin").model
    assert len(functional.functions) == 1
    assert not plugin.functions
    assert plugin.graph == functional.graph
    assert rewrite(plugin, [], OPS).model == functional


def test_passes_know_shapes_behind_custom_nodes() -> None:
    shapes = []
    rewritten(INVERSE, edit("look", lambda graph: shapes.append(graph.nodes[0].outputs[0].shape)))
    assert shapes == [[2, 3, 3]]


def test_passes_know_shapes_that_an_earlier_one_made_known() -> None:
    shapes = []
    text = "m (float[2] x) => (float[A] y) { s = TRT.Foo (x) a = Reshape (x, s) y = Relu (a) }"

    def make_constant(graph: gs.Graph) -> None:
        graph.nodes[1].inputs[1] = gs.Constant("shape", np.array([2]))

    look = edit("look", lambda graph: shapes.append(graph.nodes[0].outputs[0].shape))
    rewrite(text_model(text), [edit("make constant", make_constant), look], OPS)
    assert shapes == [[2]]


def test_nodes_without_a_name_of_their_own_get_one() -> None:
    names: list[str] = []
    model = text_model("m (float[2] x) => (float[2] y) { a = Exp (x) b = Neg (a) c = Abs (b) y = Exp (c) }")
    model.graph.node[1].name = model.graph.node[2].name = "twin"
    model.graph.node[3].name = "Exp_0"
    look = edit("look", lambda graph: names.extend(node.name for node in graph.nodes))
    rewritten(model, look, compare=False)  # ONNX Runtime refuses two nodes of one name
    assert names == ["Exp_0_", "twin", "twin_2", "Exp_0"]


def test_constants_are_of_one_kind() -> None:
    kinds = []
    text = "m (float[2] x) => (float[2] y) { c = Constant <value_floats = [1.0, 2.0]> () y = Add (x, c) }"
    rewritten(text, edit("look", lambda graph: kinds.append(type(graph.nodes[0].inputs[1]))))
    assert kinds == [gs.Constant]


def test_an_op_of_no_plugin_is_refused() -> None:
    with pytest.raises(InputError, match="Inverse"):
        rewrite(text_model(INVERSE), [], ())


def test_random_inputs_suit_their_use() -> None:
    text = """m (int64[N] index, bool[] flag, float16[N, 3] x, float[1, 3, H, W] image, int32[2] count)
        => (float[N, 2] y) { y = Gather <axis = 0> (table, index) }"""
    model = text_model(text, table=np.zeros((5, 2), np.float32))
    inputs = random_inputs(model)
    assert {name: (array.shape, array.dtype.name) for name, array in inputs.items()} == {
        "index": ((3,), "int64"),
        "flag": ((), "bool"),
        "x": ((3, 3), "float16"),
        "image": ((1, 3, 64, 64), "float32"),
        "count": ((2,), "int32"),
    }
    many = np.concatenate([random_inputs(model, seed)["index"] for seed in range(20)])
    assert set(many) == set(range(5))
    for name, array in random_inputs(model).items():
        np.testing.assert_array_equal(array, inputs[name])


DIFFERENCES = [
    ([1.0, -4.0], [1.0, -4.2], 0.05),
    ([1.0, math.nan], [1.0, math.nan], 0.0),
    ([1.0, math.inf], [1.0, math.inf], 0.0),
    ([1.0, math.inf], [1.0, -math.inf], math.inf),
    ([1.0, 2.0], [1.0, math.nan], math.inf),
    ([0.0, 0.0], [0.0, 1e-3], 1e-3),
    ([1, 2, 3, 4], [1, 2, 3, 5], 0.25),
    ([True, False], [True, False], 0.0),
    ([1.0], [1.0, 1.0], math.inf),
    ([1.0], [1], math.inf),
    ([], [], 0.0),
]


@pytest.mark.parametrize(("before", "after", "expected"), DIFFERENCES)
def test_difference(before: list[Any], after: list[Any], expected: float) -> None:
    assert difference(np.array(before), np.array(after)) == pytest.approx(expected)


def test_a_missing_output_is_infinitely_different() -> None:
    assert difference(np.zeros(2), None) == math.inf
