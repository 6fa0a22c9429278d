"""What the precision pass reduces, what it leaves in FP32 and why, on small graphs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
import torch
from onnx import ModelProto, TensorProto

from custom_ops.plugin import uniad_custom_ops
from tests.graph.rewriting import exported, op_types, rewritten, text_model
from toolkit.errors import InputError
from toolkit.graph.equivalence import outputs_of
from toolkit.graph.graph_pass import GraphPass, Outcome
from toolkit.graph.opset import raise_opset
from toolkit.graph.precision.assignment import holds
from toolkit.graph.precision.policy import BF16, FP16, PrecisionPolicy
from toolkit.graph.precision.precision_pass import precision_pass
from toolkit.graph.precision.simulation import simulate_rounding
from toolkit.graph.random_inputs import random_inputs
from toolkit.nn.transformer import TransformerEncoderLayer
from toolkit.ops.spec import registered_schemas
from toolkit.specs import Submodule

pytestmark = pytest.mark.thorough

FLOAT, HALF, BFLOAT = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
WEIGHT = np.linspace(-1, 1, 32 * 32, dtype=np.float32).reshape(32, 32)


def reduced(
    model: ModelProto | str, policy: PrecisionPolicy = FP16, **weights: np.ndarray
) -> tuple[ModelProto, Outcome]:
    """The model after the pass; it has a `weight` [32, 32] besides those given. Its types are checked."""
    if isinstance(model, str):
        model = text_model(model, weight=WEIGHT, **weights)
    result, outcome = rewritten(model, precision_pass(policy), compare=False)
    types(result)
    return result, outcome


def types(model: ModelProto) -> dict[str, int]:
    """Element type of every tensor, as ONNX infers it; it refuses inconsistent ones."""
    with registered_schemas(uniad_custom_ops()):
        onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    known = {value.name: value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.value_info)}
    known |= {value.name: value.type.tensor_type.elem_type for value in inferred.output}
    return known | {weight.name: weight.data_type for weight in inferred.initializer}


def input_types(model: ModelProto, op: str) -> list[int]:
    """Element types of the inputs of the only node of an operator."""
    [node] = [node for node in model.graph.node if node.op_type == op]
    known = types(model)
    return [known[name] for name in node.input]


def casts(model: ModelProto) -> Counter[int]:
    """How many casts there are to each type."""
    nodes = [node for node in model.graph.node if node.op_type == "Cast"]
    return Counter(attribute.i for node in nodes for attribute in node.attribute if attribute.name == "to")


def reasons(outcome: Outcome) -> dict[str, str]:
    return {miss.node: miss.reason for miss in outcome.near_misses}


def test_features_between_products_stay_reduced() -> None:
    """One cast on the way in, one on the way out; weights are stored in FP16, inputs and outputs remain FP32."""
    model, outcome = reduced(
        """m (float[2, 32] x) => (float[2, 32] y) {
            a = MatMul (x, weight)
            b = Add (a, bias)
            c = Relu (b)
            y = MatMul (c, weight)
        }""",
        bias=np.ones(32, np.float32),
    )
    assert op_types(model) == ["Cast", "MatMul", "Add", "Relu", "MatMul", "Cast"]
    assert {weight.name: weight.data_type for weight in model.graph.initializer} == {
        "weight_float16": HALF,
        "bias_float16": HALF,
    }
    assert [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)] == [FLOAT, FLOAT]
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["x", "y"]
    [change] = outcome.changes
    assert change.what == "FP16 in 4 of 4 nodes, 2 casts added"


def test_graph_without_products_is_left_alone() -> None:
    model, outcome = reduced("m (float[4] x) => (float[4] y) { a = Relu (x) y = Sigmoid (a) }")
    assert op_types(model) == ["Relu", "Sigmoid"]
    assert outcome == Outcome()


def test_reduced_model_is_left_alone() -> None:
    once, _ = reduced("m (float[2, 32] x) => (float[2, 32] y) { y = MatMul (x, weight) }")
    twice, outcome = reduced(once)
    assert op_types(twice) == op_types(once)
    assert outcome == Outcome()


FP32_OPS = {
    "softmax": ("[2, 32]", "y = Softmax (a)"),
    "layer norm": ("[2, 32]", "y = LayerNormalization (a, ones)"),
    "box decode": ("[2, 32]", "y = Sigmoid (a)"),
    "logarithm": ("[2, 32]", "y = Log (a)"),
    "exponential": ("[2, 32]", "y = Exp (a)"),
    "angle": ("[2, 32]", "y = Sin (a)"),
    "power": ("[2, 32]", "y = Pow (a, ones)"),
    "sum": ("[2]", "y = ReduceSum <keepdims: int = 0> (a, axis)"),
    "cumulated sum": ("[2, 32]", "y = CumSum (a, last)"),
    "ranks": ("[2, 3]", "y, i = TopK (a, three)"),
    "score threshold": ("[2, 32]", "c = Greater (a, ones) y = Cast <to: int = 1> (c)"),
    "label": ("[2, 1]", "i = ArgMax <axis: int = 1> (a) y = Cast <to: int = 1> (i)"),
}


@pytest.mark.parametrize("kind", FP32_OPS)
def test_sensitive_operators_stay_in_fp32(kind: str) -> None:
    shape, text = FP32_OPS[kind]
    model, _ = reduced(
        f"m (float[2, 32] x) => (float{shape} y) {{ a = MatMul (x, weight) {text} }}",
        ones=np.ones(32, np.float32),
        axis=np.array([1]),
        last=np.array(1),
        three=np.array([3]),
    )
    assert input_types(model, "MatMul") == [HALF, HALF]
    assert input_types(model, text.split("= ")[1].split()[0])[0] == FLOAT


def test_decomposed_layer_norm_stays_in_fp32() -> None:
    """Everything from its mean on: FP32 is contagious. Its epsilon of 1e-5 is not rounded."""
    model, _ = reduced(
        """m (float[2, 32] x) => (float[2, 32] y) {
            features = MatMul (x, weight)
            mean = ReduceMean (features, last)
            centred = Sub (features, mean)
            squared = Pow (centred, two)
            variance = ReduceMean (squared, last)
            guarded = Add (variance, epsilon)
            deviation = Sqrt (guarded)
            normal = Div (centred, deviation)
            scaled = Mul (normal, scale)
            y = MatMul (scaled, weight)
        }""",
        last=np.array([-1]),
        two=np.array(2, np.float32),
        epsilon=np.array(1e-5, np.float32),
        scale=np.ones(32, np.float32),
    )
    known = types(model)
    assert all(known[name] == FLOAT for name in ("mean", "centred", "variance", "guarded", "normal", "scaled"))
    assert known["features"] == HALF


def test_poses_and_state_stay_in_fp32() -> None:
    """Arithmetic on inputs is FP32, be it a pose or recurrent state; what a product adds to it is cast up."""
    model, outcome = reduced(
        """m (float[9, 3] points, float[3, 3] rotation, float[3] translation, float[9, 32] state)
            => (float[9, 3] moved, float[9, 32] next_state) {
            turned = MatMul (points, rotation)
            moved = Add (turned, translation)
            features = MatMul (state, weight)
            next_state = Add (state, features)
        }"""
    )
    known = types(model)
    assert known["turned"] == FLOAT
    assert known["features"] == HALF
    assert [*reasons(outcome).values()] == ["a product over 3 elements, as of coordinates"]
    assert casts(model) == {HALF: 1, FLOAT: 1}


@pytest.mark.parametrize(("shape", "kept"), [((32, 10), True), ((9, 32), True), ((32, 32), False)])
def test_narrow_products_are_heads_or_read_quantities(shape: tuple[int, int], kept: bool) -> None:
    model, outcome = reduced(
        f"m (float[2, {shape[0]}] x) => (float[2, {shape[1]}] y) {{ y = Gemm <transB: int = 1> (x, narrow) }}",
        narrow=np.ones(shape[::-1], np.float32),
    )
    assert ("Cast" not in op_types(model)) == kept
    assert bool(reasons(outcome)) == kept


def test_attention_over_few_keys_is_no_head() -> None:
    """Neither operand is a weight: a product of activations may be narrow."""
    model, _ = reduced(
        """m (float[2, 6, 32] x) => (float[2, 6, 6] y) {
            q = MatMul (x, weight)
            k = Transpose <perm: ints = [0, 2, 1]> (q)
            y = MatMul (q, k)
        }"""
    )
    assert op_types(model) == ["Cast", "MatMul", "Transpose", "MatMul", "Cast"]


def test_integers_and_booleans_are_untouched() -> None:
    model, _ = reduced(
        """m (float[4, 32] x, int64[2] rows, bool[4, 1] valid) => (float[2, 32] y, int64[3] size) {
            a = MatMul (x, weight)
            b = Where (valid, a, zero)
            y = Gather (b, rows)
            both = Shape (a)
            size = Concat <axis: int = 0> (both, two)
        }""",
        zero=np.array(0, np.float32),
        two=np.array([2]),
    )
    assert input_types(model, "Where") == [TensorProto.BOOL, HALF, HALF]
    assert input_types(model, "Gather") == [HALF, TensorProto.INT64]
    assert input_types(model, "Shape") == [HALF]


@pytest.mark.parametrize(("value", "fits"), [(-1e9, False), (1e-12, False), (-np.inf, True), (0.5, True)])
def test_constants_that_fp16_cannot_hold(value: float, fits: bool) -> None:
    """The node that reads one stays in FP32: a mask of -1e9 must not become infinite, nor an epsilon zero."""
    model, outcome = reduced(
        """m (float[4, 32] x, bool[4, 1] valid) => (float[4, 32] y) {
            a = MatMul (x, weight)
            y = Where (valid, a, constant)
        }""",
        constant=np.array(value, np.float32),
    )
    assert input_types(model, "Where")[2] == (HALF if fits else FLOAT)
    assert ("FP16 cannot hold its constant 'constant'" in " ".join(reasons(outcome).values())) != fits


def test_weights_beyond_the_range_stay_in_fp32() -> None:
    model, outcome = reduced(
        "m (float[4, 32] x) => (float[4, 32] y) { y = MatMul (x, large) }", large=np.float32(1e5) * WEIGHT
    )
    assert op_types(model) == ["MatMul"]
    assert "magnitudes 97.8 to 1e+05" in reasons(outcome)["MatMul_0"]
    wide, _ = reduced(
        text_model("m (float[4, 32] x) => (float[4, 32] y) { y = MatMul (x, large) }", large=np.float32(1e5) * WEIGHT),
        BF16,
    )
    assert input_types(wide, "MatMul") == [BFLOAT, BFLOAT]


def test_few_tiny_weights_do_not_matter() -> None:
    tiny = WEIGHT.copy()
    tiny[0, 0] = 1e-9
    assert holds(np.dtype(np.float16), tiny)
    assert not holds(np.dtype(np.float16), np.float32(1e-6) * WEIGHT)
    assert holds(np.dtype(ml_dtypes.bfloat16), np.float32(1e-6) * WEIGHT)


def test_a_tensor_is_cast_once() -> None:
    model, _ = reduced(
        """m (float[4, 32] x) => (float[4, 32] y, float[4, 32] z) {
            a = MatMul (x, weight)
            b = MatMul (x, weight)
            c = MatMul (x, weight)
            d = Softmax (a)
            e = Sigmoid (a)
            f = Add (d, e)
            y = Add (f, b)
            z = Add (f, c)
        }"""
    )
    assert casts(model) == {HALF: 1, FLOAT: 3}


def test_output_that_is_read_inside() -> None:
    """It keeps its name and type behind one cast, which FP32 nodes share."""
    model, _ = reduced(
        """m (float[4, 32] x) => (float[4, 32] features, float[4, 32] y, float[4, 32] z) {
            features = MatMul (x, weight)
            y = MatMul (features, weight)
            z = Softmax (features)
        }"""
    )
    assert casts(model) == {HALF: 1, FLOAT: 2}
    assert input_types(model, "Softmax") == [FLOAT]
    assert [value.name for value in model.graph.output] == ["features", "y", "z"]


ATTENTION = """m (float[1, 12, 64] x, float[1, 5, 1, 2] reference, float[1, 5, 2, 8] offsets, float[1, 5, 2, 4] logits,
                  float[2, 6, 6] image, float[1] angle) => (float[1, 5, 2, 32] y, float[2, 6, 6] turned) {
    features = MatMul (x, square)
    value = Reshape (features, heads)
    y = uniad.MultiScaleDeformableAttention <spatial_shapes: ints = [3, 4]> (value, reference, offsets, logits)
    turned = uniad.Rotate <interpolation = "nearest"> (image, angle, centre)
}"""


@pytest.mark.parametrize(("policy", "expected"), [(FP16, HALF), (BF16, FLOAT)])
def test_custom_ops_follow_their_features(policy: PrecisionPolicy, expected: int) -> None:
    """All inputs of one take one type, that of the first; the kernels have no BF16."""
    attention = text_model(
        ATTENTION,
        square=np.eye(64, dtype=np.float32),
        centre=np.array([3, 3], np.float32),
        heads=np.array([1, 12, 2, 32]),
    )
    model, _ = reduced(attention, policy)
    assert input_types(model, "MultiScaleDeformableAttention") == [expected] * 4
    assert input_types(model, "Rotate") == [FLOAT] * 3


def two_parts() -> ModelProto:
    """An encoder and a head, in names as this toolkit gives them."""
    model = text_model(
        "m (float[4, 32] x) => (float[4, 32] y) { a = MatMul (x, weight) b = Gemm (a, weight) y = Relu (b) }",
        weight=WEIGHT,
    )
    for node, name in zip(model.graph.node, ("encoder/product", "head/box_branch/product", "head/relu"), strict=True):
        node.name = name
    return model


@pytest.mark.parametrize("pattern", ["head", "Gemm", "*box_branch*", "head/box_*/product"])
def test_more_can_be_kept(pattern: str) -> None:
    """By submodule, operator or node name."""
    model, outcome = reduced(two_parts(), replace(FP16, keep=(pattern,)))
    assert input_types(model, "MatMul") == [HALF, HALF]
    assert input_types(model, "Gemm") == [FLOAT, FLOAT]
    assert reasons(outcome) == {pattern: "nodes kept in FP32 by it: 1"}


def test_submodules_ask_for_exceptions() -> None:
    head = Submodule("head", (), (), (), build=lambda config: None, keep_fp32=("box_branch/*",))  # type: ignore[arg-type,return-value]
    other = replace(head, name="other")
    model, outcome = reduced(two_parts(), FP16.with_exceptions([head, other]))
    assert input_types(model, "Gemm") == [FLOAT, FLOAT]
    assert [miss.node for miss in outcome.near_misses] == ["head/box_branch/*"]


def test_pattern_that_matches_nothing() -> None:
    with pytest.raises(InputError, match=r"'hed' is to stay in FP32, but no node, op type or submodule matches it"):
        reduced(two_parts(), replace(FP16, keep=("head", "hed")))


CONVOLUTION = "m (float[1, 3, 8, 8] x) => (float[1, 32, 8, 8] y) { y = Conv <pads: ints = [1, 1, 1, 1]> (x, filters) }"


def test_bf16_needs_an_operator_that_has_it() -> None:
    """Convolution has BF16 since opset 22."""
    filters = np.ones((32, 3, 3, 3), np.float32)
    old, outcome = reduced(text_model(CONVOLUTION, filters=filters), BF16)
    assert op_types(old) == ["Conv"]
    assert reasons(outcome) == {"Conv_0": "the operator has no BF16 in this opset"}
    new, _ = reduced(text_model(CONVOLUTION, 22, filters=filters), BF16)
    assert input_types(new, "Conv") == [BFLOAT, BFLOAT]


def test_what_a_branch_reads_stays_in_fp32() -> None:
    model, outcome = reduced(
        """m (float[4, 32] x, bool flag) => (float[4, 32] y) {
            a = MatMul (x, weight)
            y = If (flag) <
                then_branch = yes () => (float[4, 32] t) { t = Relu (a) },
                else_branch = no () => (float[4, 32] e) { e = Neg (a) }
            >
        }"""
    )
    assert op_types(model) == ["MatMul", "If"]
    assert [*reasons(outcome).values()] == ["a subgraph reads its result"]


@pytest.mark.parametrize(("policy", "bound"), [(FP16, 1e-3), (BF16, 1e-2)])
def test_numbers_stay_close(policy: PrecisionPolicy, bound: float) -> None:
    """A transformer layer, rounded after every node: 1.6e-4 and 1.2e-3 measured. The typed FP16 model runs too."""
    torch.manual_seed(0)
    layer = TransformerEncoderLayer(64, 4, 128)
    model = raise_opset(exported(layer, (torch.randn(2, 10, 64),)), policy.opset, ())
    inputs = random_inputs(model)
    [expected] = outputs_of(model, inputs).values()
    typed, _ = reduced(model, policy)
    [simulated] = outputs_of(rewritten(typed, rounded(policy), compare=False)[0], inputs).values()
    assert 1e-5 < relative_error(expected, simulated) < bound
    if policy is FP16:
        [actual] = outputs_of(typed, inputs).values()
        assert 1e-5 < relative_error(expected, actual) < bound


def rounded(policy: PrecisionPolicy) -> GraphPass:
    def apply(graph: gs.Graph) -> Outcome:
        simulate_rounding(graph, policy.dtype)
        return Outcome()

    return GraphPass("rounded", "Rounds where the typed model would.", apply, tolerance=math.inf)


def relative_error(expected: np.ndarray, actual: np.ndarray) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def test_unknown_types_are_left_alone() -> None:
    """Nothing says what another vendor's operator gives."""
    model, outcome = rewritten(
        text_model(
            "m (float[4, 32] x) => (float[4, 32] y) { a = com.microsoft.Mystery (x) y = MatMul (a, weight) }",
            weight=WEIGHT,
        ),
        precision_pass(FP16),
        compare=False,
    )
    assert op_types(model) == ["Mystery", "MatMul"]
    assert [*reasons(outcome).values()] == ["the types of its tensors are unknown"]
