"""Each clean-up pass does its work on a small graph, and leaves alone what only looks like it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import ArrayLike

from tests.graph.rewriting import op_types, rewritten, text_model
from toolkit.graph.cleanup.casts import REMOVE_DUPLICATE_CASTS
from toolkit.graph.cleanup.common_subexpressions import MERGE_COMMON_SUBEXPRESSIONS
from toolkit.graph.cleanup.constants import FOLD_CONSTANTS
from toolkit.graph.cleanup.dead_nodes import REMOVE_DEAD_NODES
from toolkit.graph.cleanup.duplicate_initializers import MERGE_DUPLICATE_INITIALIZERS
from toolkit.graph.cleanup.identities import REMOVE_IDENTITIES
from toolkit.graph.graph_pass import GraphPass

pytestmark = pytest.mark.thorough


def nodes_after(text: str, graph_pass: GraphPass, **weights: ArrayLike) -> list[str]:
    """Operators that a pass leaves of a graph in text form."""
    model, _ = rewritten(text_model(text, **weights), graph_pass)
    return op_types(model)


def test_dead_nodes_are_removed() -> None:
    text = "m (float[2] x) => (float[2] y) { a = Exp (x) b = Neg (a) y = Relu (x) }"
    model, outcome = rewritten(text, REMOVE_DEAD_NODES)
    assert op_types(model) == ["Relu"]
    assert [change.what for change in outcome.changes] == ["Exp removed", "Neg removed"]


def test_nodes_that_lead_to_an_output_stay() -> None:
    text = "m (float[2] x) => (float[2] y, float[2] a) { a = Exp (x) y = Relu (x) }"
    assert nodes_after(text, REMOVE_DEAD_NODES) == ["Exp", "Relu"]


def test_constants_are_folded() -> None:
    text = "m (float[2] x) => (float[2] y) { a = Exp (w) b = Add (a, w) y = Mul (x, b) }"
    assert nodes_after(text, FOLD_CONSTANTS, w=np.ones(2, np.float32)) == ["Mul"]


def test_shapes_are_folded_where_they_are_known() -> None:
    text = """m (float[N, 3, 4] x) => (int64[1] known, float[M, 12] y) {
        s = Shape (x) one = Constant <value_ints = [1]> () i = Constant <value_ints = [1, 2]> ()
        k = Gather (s, one) known = Neg (k) m = Constant <value_ints = [-1]> () p = Gather (s, i)
        q = ReduceProd (p) t = Concat <axis = 0> (m, q) y = Reshape (x, t)
    }"""
    assert nodes_after(text, FOLD_CONSTANTS) == ["Neg", "Reshape"]


def test_open_dimensions_are_not_folded() -> None:
    text = "m (float[N, 3] x) => (int64[1] y) { s = Shape (x) i = Constant <value_ints = [0]> () y = Gather (s, i) }"
    assert nodes_after(text, FOLD_CONSTANTS) == ["Shape", "Gather"]


def test_a_result_far_larger_than_its_inputs_is_not_folded() -> None:
    text = "m (float[1] x) => (float[1024, 1024] y) { e = Expand (w, s) y = Mul (e, x) }"
    model, outcome = rewritten(text_model(text, w=np.ones(1, np.float32), s=np.array([1024, 1024])), FOLD_CONSTANTS)
    assert op_types(model) == ["Expand", "Mul"]
    assert "makes 4194304 bytes of 20" in outcome.near_misses[0].reason


def test_bounds_of_a_range_lose_a_needless_dimension() -> None:
    """ONNX Runtime takes a bound of shape [1] as long as it does not see that it is constant."""
    text = """m (int64 n, bool c) => (int64[N] y) {
        one = If (known) <
            then_branch = t () => (a) { a = Identity (step) }, else_branch = e () => (b) { b = Shape (n) }
        >
        y = Range (zero, n, one)
    }"""
    model, _ = rewritten(text_model(text, zero=0, known=True, step=[1]), FOLD_CONSTANTS)
    assert op_types(model) == ["Range"]


def test_random_numbers_are_not_folded() -> None:
    text = "m (float[2] x) => (float[2] y) { r = RandomNormalLike <seed = 1.0> (w) y = Add (x, r) }"
    model, _ = rewritten(text_model(text, w=np.ones(2, np.float32)), FOLD_CONSTANTS, compare=False)
    assert op_types(model) == ["RandomNormalLike", "Add"]


def test_quantization_of_a_weight_is_not_folded() -> None:
    """TensorRT reads from it where to quantize."""
    text = """m (float[2] x) => (float[2] y) {
        q = QuantizeLinear (w, s, z) d = DequantizeLinear (q, s, z) y = Add (x, d)
    }"""
    weights: dict[str, np.ndarray] = {
        "w": np.ones(2, np.float32),
        "s": np.array(0.5, np.float32),
        "z": np.array(0, np.int8),
    }
    assert nodes_after(text, FOLD_CONSTANTS, **weights) == ["QuantizeLinear", "DequantizeLinear", "Add"]


def test_softmax_of_constants_is_not_folded() -> None:
    """The first layer of a decoder has constant queries, and its attention is recognised by the softmax."""
    text = "m (float[2] x) => (float[2] y) { n = Neg (w) s = Softmax (n) y = Add (x, s) }"
    assert nodes_after(text, FOLD_CONSTANTS, w=np.ones(2, np.float32)) == ["Softmax", "Add"]


def test_tiny_addends_survive() -> None:
    """An epsilon that guards a division is no neutral element."""
    text = "m (float[2] x) => (float[2] y) { z = Sub (x, x) e = Exp (w) a = Add (z, e) y = Div (x, a) }"
    assert nodes_after(text, FOLD_CONSTANTS, w=np.array([-18.4], np.float32)) == ["Sub", "Add", "Div"]


@pytest.mark.parametrize(("condition", "left"), [(True, "Exp"), (False, "Neg")])
def test_a_known_condition_takes_its_branch(condition: bool, left: str) -> None:
    text = """m (float[2] x) => (float[2] y) {
        b = If (c) <then_branch = t () => (a) { a = Exp (x) }, else_branch = e () => (a) { a = Neg (x) }>
        y = Relu (b)
    }"""
    model, _ = rewritten(text_model(text, c=np.array(condition)), FOLD_CONSTANTS)
    assert [op for op in op_types(model) if op != "Identity"] == [left, "Relu"]


IDENTITIES = {
    "identity": "a = Identity (x)",
    "cast to its own type": "a = Cast <to = 1> (x)",
    "reshape to its own shape": "s = Constant <value_ints = [2, 3]> () a = Reshape (x, s)",
    "transposed and back": "b = Transpose <perm = [1, 0]> (x) a = Transpose <perm = [1, 0]> (b)",
    "transposed not at all": "a = Transpose <perm = [0, 1]> (x)",
    "flattened and back": "s = Constant <value_ints = [2, 3]> () b = Flatten <axis = 0> (x) a = Reshape (b, s)",
    "dropout in inference": "a = Dropout (x)",
    "concatenation of one": "a = Concat <axis = 0> (x)",
    "expand to its own shape": "s = Constant <value_ints = [2, 3]> () a = Expand (x, s)",
    "whole slice": "s = Constant <value_ints = [0]> () e = Constant <value_ints = [9]> () a = Slice (x, s, e)",
    "no padding": "p = Constant <value_ints = [0, 0, 0, 0]> () a = Pad (x, p)",
}


@pytest.mark.parametrize("body", IDENTITIES.values(), ids=IDENTITIES)
def test_identities_are_removed(body: str) -> None:
    assert nodes_after(f"m (float[2, 3] x) => (float[2, 3] y) {{ {body} y = Exp (a) }}", REMOVE_IDENTITIES) == ["Exp"]


@pytest.mark.parametrize("body", IDENTITIES.values(), ids=IDENTITIES)
def test_outputs_keep_their_names(body: str) -> None:
    """Whatever is removed before them."""
    text = f"m (float[2, 3] input) => (float[2, 3] y) {{ x = Exp (input) {body.replace('a =', 'y =')} }}"
    model, _ = rewritten(text, REMOVE_IDENTITIES)
    assert [output.name for output in model.graph.output] == ["y"]
    assert op_types(model) == ["Exp"]


DIFFERENT = {
    "cast to another type": "b = Cast <to = 10> (x) a = Cast <to = 1> (b)",
    "reshape to another shape": "s = Constant <value_ints = [3, 2]> () a = Reshape (x, s)",
    "transposed twice another way": "b = Transpose <perm = [1, 0]> (x) a = Exp (b)",
    "reversed": """s = Constant <value_ints = [-1]> () e = Constant <value_ints = [-9]> ()
        o = Constant <value_ints = [0]> () a = Slice (x, s, e, o, s)""",
    "shifted": "p = Constant <value_ints = [1, 0, -1, 0]> () a = Pad (x, p)",
}


@pytest.mark.parametrize("body", DIFFERENT.values(), ids=DIFFERENT)
def test_what_changes_something_stays(body: str) -> None:
    text = f"m (float[2, 3] x) => (float[A, B] y) {{ {body} y = Exp (a) }}"
    count = len(op_types(text_model(text))) - text.count("Constant")
    assert len(nodes_after(text, REMOVE_IDENTITIES)) == count


def test_dropout_in_training_stays() -> None:
    text = "m (float[2] x) => (float[2] y) { a = Dropout (x, r, t) y = Exp (a) }"
    weights = {"r": np.array(0.5, np.float32), "t": np.array(True)}
    model, _ = rewritten(text_model(text, **weights), REMOVE_IDENTITIES, compare=False)
    assert op_types(model) == ["Dropout", "Exp"]


def test_an_input_that_is_an_output_keeps_its_node() -> None:
    model, outcome = rewritten("m (float[2] x) => (float[2] y) { y = Identity (x) }", REMOVE_IDENTITIES)
    assert op_types(model) == ["Identity"]
    assert outcome.near_misses[0].reason == "Identity joins an input or constant to an output"


def test_a_cast_reads_past_one_that_loses_nothing() -> None:
    text = "m (float16[2] x) => (int32[2] y) { a = Cast <to = 1> (x) y = Cast <to = 6> (a) }"
    assert nodes_after(text, REMOVE_DUPLICATE_CASTS) == ["Cast"]


@pytest.mark.parametrize(("source", "middle"), [("float", 10), ("float", 7), ("int64", 1), ("float", 9)])
def test_a_cast_does_not_read_past_one_that_rounds(source: str, middle: int) -> None:
    text = f"m ({source}[2] x) => (double[2] y) {{ a = Cast <to = {middle}> (x) y = Cast <to = 11> (a) }}"
    model, outcome = rewritten(text, REMOVE_DUPLICATE_CASTS)
    assert op_types(model) == ["Cast", "Cast"]
    assert "rounds" in outcome.near_misses[0].reason


def test_equal_initializers_become_one() -> None:
    text = "m (float[2] x) => (float[2] y) { a = Add (x, v) y = Mul (a, w) }"
    weights = {"v": np.ones(2, np.float32), "w": np.ones(2, np.float32)}
    model, outcome = rewritten(text_model(text, **weights), MERGE_DUPLICATE_INITIALIZERS)
    assert [weight.name for weight in model.graph.initializer] == ["v"]
    assert outcome.changes[0].what == "is 'v'"


@pytest.mark.parametrize(
    "other", [np.zeros(2, np.float32), np.ones((1, 2), np.float32), np.full(2, 1 + 1e-7, np.float32)]
)
def test_different_initializers_stay(other: np.ndarray) -> None:
    text = "m (float[2] x) => (float[A] y) { a = Add (x, v) y = Mul (a, w) }"
    model, _ = rewritten(text_model(text, v=np.ones(2, np.float32), w=other), MERGE_DUPLICATE_INITIALIZERS)
    assert len(model.graph.initializer) == 2


def test_equal_nodes_become_one() -> None:
    text = "m (float[2] x) => (float[2] y) { a = Exp (x) b = Exp (x) c = Neg (a) d = Neg (b) y = Add (c, d) }"
    assert nodes_after(text, MERGE_COMMON_SUBEXPRESSIONS) == ["Exp", "Neg", "Add"]


@pytest.mark.parametrize(
    "pair",
    [
        "a = LeakyRelu <alpha = 0.1> (x) b = LeakyRelu <alpha = 0.2> (x)",
        "z = Neg (x) a = Sub (x, z) b = Sub (z, x)",
        "a = Cast <to = 1> (x) b = Relu (x)",
    ],
)
def test_different_nodes_stay(pair: str) -> None:
    text = f"m (float[2] x) => (float[2] y) {{ {pair} y = Add (a, b) }}"
    assert nodes_after(text, MERGE_COMMON_SUBEXPRESSIONS) == op_types(text_model(text))


def test_random_nodes_are_not_merged() -> None:
    text = "m (float[2] x) => (float[2] y) { a = RandomNormalLike (x) b = RandomNormalLike (x) y = Sub (a, b) }"
    model, _ = rewritten(text, MERGE_COMMON_SUBEXPRESSIONS, compare=False)
    assert op_types(model) == ["RandomNormalLike", "RandomNormalLike", "Sub"]


def test_two_equal_outputs_stay_two() -> None:
    text = "m (float[2] x) => (float[2] y, float[2] z) { y = Exp (x) z = Exp (x) }"
    model, outcome = rewritten(text, MERGE_COMMON_SUBEXPRESSIONS)
    assert op_types(model) == ["Exp", "Exp"]
    assert "both are outputs" in outcome.near_misses[0].reason


def test_branches_are_cleaned_too() -> None:
    text = """m (float[2] x, bool c) => (float[2] y) {
        y = If (c) <
            then_branch = t () => (a) { b = Identity (x) a = Exp (b) }, else_branch = e () => (a) { a = Neg (x) }
        >
    }"""
    model, _ = rewritten(text, REMOVE_IDENTITIES)
    [branch] = [a.g for a in model.graph.node[0].attribute if a.name == "then_branch"]
    assert [node.op_type for node in branch.node] == ["Exp"]
    onnx.checker.check_model(model)
