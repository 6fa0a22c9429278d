"""What a rewritten model must keep where it cannot be compared by what it computes, and how sequences are compared."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TypeProto

from tests.graph.rewriting import text_model
from toolkit.errors import CheckFailed
from toolkit.graph import pipeline
from toolkit.graph.equivalence import examine, reference_of, rounding, to_neighbours
from toolkit.graph.output_types import is_as_known
from toolkit.graph.pipeline import rewrite
from toolkit.graph.proof import WITHOUT_OPTIMIZATIONS
from toolkit.graph.random_inputs import MOST_ELEMENTS, candidate_inputs

UNRUNNABLE = "m (float[5] x, int64[2] s) => (float[A] y, float[B] z) { y, b = Split <axis = 0> (x, s) z = Relu (b) }"
"""Two random sizes are 0 or 1, and never add up to five."""
DRAWING = "m (float[2] x) => (float[2] y) { r = RandomNormalLike (x) y = Add (x, r) }"
NEGATED = "m (float[2] x) => (float[2] y) { y = Neg (x) }"
LACKING = "m (float[2] x) => (float[2] y) { a = TRT.Foo (x) y = Add (a, x) }"


@pytest.mark.parametrize("text", [UNRUNNABLE, DRAWING])
def test_the_same_model_still_loads_and_has_the_same_outputs(text: str) -> None:
    examination = examine(reference_of(text_model(text)), text_model(text), 1e-4)
    assert not examination.fault
    assert examination.finding.startswith("not compared: ")
    assert examination.finding.endswith("; it still loads, and its outputs have the shapes that they had")


def test_what_loaded_before_must_load() -> None:
    unloadable = text_model(UNRUNNABLE.replace("Relu (b)", "TRT.Foo (b)"))
    fault = examine(reference_of(text_model(UNRUNNABLE)), unloadable, 1e-4).fault
    assert fault.startswith("ONNX Runtime cannot load it any more: ")


def test_what_did_not_load_before_need_not() -> None:
    examination = examine(reference_of(text_model(LACKING)), text_model(LACKING), 1e-4)
    assert not examination.fault
    assert examination.finding.endswith("; but its outputs have the shapes that they had")


@pytest.mark.parametrize(
    ("signal", "padding", "shape"),
    [
        ("N, T", "0, 40, 0, 40", (3, 64)),
        ("N, T", "0, 64, 0, 64", (1, 256)),
        ("T", "64, 64", (256,)),
        ("1, T", "0, 64, 0, 64", (1, 512)),
    ],
)
def test_signals_that_are_too_short_are_lengthened(signal: str, padding: str, shape: tuple[int, ...]) -> None:
    """A signal cannot be reflected further than it is long."""
    text = f"""m (float[{signal}] x) => (float[{signal.replace("T", "U")}] y) {{
        p = Constant <value_ints = [{padding}]> () y = Pad <mode = "reflect"> (x, p)
    }}"""
    reference = reference_of(text_model(text))
    assert not reference.unknown
    assert reference.inputs["x"].shape == shape


def test_a_signal_and_its_state_have_one_batch() -> None:
    """The batch is the second dimension of a recurrent state."""
    text = """m (float[?, ?] x, float[2, ?, 8] state) => (float[B, T] y) {
        p = Constant <value_ints = [0, 64, 0, 64]> () longer = Pad <mode = "reflect"> (x, p)
        axes = Constant <value_ints = [0, 2]> () level = ReduceMean <keepdims = 0> (state, axes)
        last = Constant <value_ints = [1]> () column = Unsqueeze (level, last)
        y = Concat <axis = 1> (longer, column)
    }"""
    shapes = {name: array.shape for name, array in reference_of(text_model(text)).inputs.items()}
    assert shapes == {"x": (1, 256), "state": (2, 1, 8)}


def test_sizes_that_are_given_are_not_tried_twice() -> None:
    text = 'm (float[3] x) => (float[N] y) { p = Constant <value_ints = [9, 9]> () y = Pad <mode = "reflect"> (x, p) }'
    assert "Input shape:{3}" in reference_of(text_model(text)).unknown
    assert len(list(candidate_inputs(text_model(text)))) == 1


def test_larger_inputs_have_bounded_sizes() -> None:
    sizes = [inputs["x"].size for inputs in candidate_inputs(text_model("m (float[A, B, C, D, E] x) => (y) {}"))]
    assert sizes[0] == 3**5
    assert max(sizes) <= MOST_ELEMENTS


def test_an_output_of_another_size_is_named() -> None:
    other = "m (float[2] x) => (float[4] y) { y = Concat <axis = 0> (x, x) }"
    fault = examine(reference_of(text_model(DRAWING)), text_model(other), 1e-4).fault
    assert fault == "output 'y' was FLOAT, 2 and is FLOAT, 4"


def test_an_output_that_is_gone_is_named() -> None:
    other = "m (float[5] x, int64[2] s) => (float[A] y) { y, b = Split <axis = 0> (x, s) }"
    assert examine(reference_of(text_model(UNRUNNABLE)), text_model(other), 1e-4).fault == "output 'z' is gone"


HALVES_INSIDE = "m (float[4] x) => (float[4] y) { h = Cast <to = 10> (x) a = Add (h, k) y = Cast <to = 1> (a) }"


@pytest.mark.parametrize(("offset", "fits"), [(2.001953125, True), (2.01, False)])
def test_the_narrowest_float_inside_bounds_the_change(offset: float, fits: bool) -> None:
    """Inputs and outputs of 32 bits, and sums of 16: one rounding of these is 5e-4."""
    before, after = (text_model(HALVES_INSIDE, k=np.float16(value)) for value in (2.0, offset))
    fault = examine(reference_of(before), after, 1e-4).fault
    assert (fault == "") is fits
    assert fits or "2e-03 is allowed" in fault


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("m (float[2] x) => (float[2] y) { y = Relu (x) }", 2.0**-22),
        ("m (float16[2] x) => (float16[2] y) { y = Relu (x) }", 2.0**-9),
        ("m (float[2] x) => (float[2] y) { b = Cast <to = 16> (x) y = Cast <to = 1> (b) }", 2.0**-6),
    ],
)
def test_types_inside_are_told_by_inputs_weights_and_casts(text: str, expected: float) -> None:
    assert rounding(text_model(text)) == expected


CHAOTIC = "m (float[64] x) => (float[64] y, float[64] z) { a = Mul (x, k) y = Sin (a) z = Add (x, d) }"
"""Of angles of a million radians one rounding is a twentieth of a turn."""


def test_outputs_that_hang_on_the_last_digits_are_judged_by_that() -> None:
    """One rounding more changes `y` no more than other inputs of the same digits do, but `z` not at all."""
    factors = (np.float32(1e6), np.nextafter(np.float32(1e6), np.float32(2e6)))
    before, after = (text_model(CHAOTIC, k=factor, d=np.float32(0)) for factor in factors)
    examination = examine(reference_of(before), after, 1e-4)
    assert not examination.fault
    assert "1 as near as the model is to itself when inputs are rounded otherwise, such as 'y'" in examination.finding
    broken = text_model(CHAOTIC, k=factors[0], d=np.float32(1e-3))
    assert examine(reference_of(before), broken, 1e-4).fault.startswith("output 'z' differs by")


def test_neighbours_are_one_rounding_away() -> None:
    floats = np.array([1.0, 0.0, -2.0], np.float32)
    moved = to_neighbours(floats, np.random.default_rng(0))
    assert (moved != floats).all()
    np.testing.assert_allclose(moved, floats, rtol=2e-7, atol=1e-44)
    numbers = np.array([3])
    assert to_neighbours(numbers, np.random.default_rng(0)) is numbers


KNOWN = [
    ("float[2, N]", "float[2, N]", True),
    ("float[2, N]", "float[2, M]", True),
    ("float[2, N]", "float[2, 3]", True),
    ("float[2, N]", "float[3, N]", False),
    ("float[2, N]", "float[N, N]", False),
    ("float[2, N]", "float[2]", False),
    ("float[2, N]", "float", False),
    ("float[2, N]", "float16[2, N]", False),
    ("float[]", "float[2]", True),
    ("float[]", "seq(float[2])", False),
    ("seq(float[2])", "seq(float[2])", True),
    ("seq(float[2])", "seq(float[3])", False),
    ("optional(seq(float[2]))", "optional(seq(float[2]))", True),
    ("optional(seq(float[2]))", "optional(float[2])", False),
    ("map(int64, float[2])", "map(int64, float[2])", True),
    ("map(int64, float[2])", "map(int32, float[2])", False),
]


@pytest.mark.parametrize(("before", "after", "kept"), KNOWN)
def test_more_may_be_known_of_an_output_but_not_less(before: str, after: str, kept: bool) -> None:
    assert is_as_known(type_of(before), type_of(after)) == kept


def test_nothing_known_is_kept_by_anything() -> None:
    assert is_as_known(TypeProto(), type_of("float[2]"))
    assert not is_as_known(type_of("float[2]"), TypeProto())


def type_of(text: str) -> TypeProto:
    [value] = text_model(f"m ({text} x) => ({text} y) {{ y = Identity (x) }}").graph.input
    found: TypeProto = value.type
    return found


def test_sequences_are_compared_entry_by_entry() -> None:
    text = "m (float[4] x) => (seq(float[N]) y) {{ a = {} (x) y = SplitToSequence (a) }}"
    reference = reference_of(text_model(text.format("Relu")))
    assert sorted(reference.outputs) == ["y[0]", "y[1]", "y[2]", "y[3]"]
    assert "4 outputs" in examine(reference, text_model(text.format("Relu")), 1e-4).finding
    assert examine(reference, text_model(text.format("Neg")), 1e-4).fault.startswith("output 'y[0]' differs by")


def test_a_longer_sequence_is_another() -> None:
    text = "m (float[4] x) => (seq(float[N]) y) {{ s = Constant <value_ints = {}> () y = SplitToSequence (x, s) }}"
    reference = reference_of(text_model(text.format("[2, 2]")))
    fault = examine(reference, text_model(text.format("[2, 1, 1]")), 1e-4).fault
    assert fault == "output 'y[1]' differs by inf of its largest value, 1e-04 is allowed"


def squashed(*, constants: bool) -> ModelProto:
    """A sigmoid of about -16, some steps of its rounding above zero. Weights are nodes or initializers.

    The inputs are integers, which have no neighbours to measure the model's noise by.
    """
    random = np.random.default_rng(0)
    weights = {
        "w": random.standard_normal((8, 8, 3, 3)) / 8,
        "scale": np.linspace(0.5, 1.5, 8),
        "bias": np.full(8, -16),
        "mean": np.zeros(8),
        "variance": np.ones(8),
    }
    text = """m (int64[1, 8, 16, 16] x) => (float[1, 8, 14, 14] y) {
        f = Cast <to = 1> (x) c = Conv (f, w) n = BatchNormalization (c, scale, bias, mean, variance) y = Sigmoid (n)
    }"""
    model = text_model(text, **{name: weight.astype(np.float32) for name, weight in weights.items()})
    if constants:
        for weight in model.graph.initializer:
            model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [weight.name], value=weight))
        del model.graph.initializer[:]
    return model


def test_what_onnx_runtime_fuses_in_one_of_the_models_is_no_difference() -> None:
    """It does so where the weights are constants, and not where they are fed."""
    before, after = squashed(constants=True), squashed(constants=False)
    assert examine(reference_of(before), after, 1e-4).differs
    result = rewrite(before, (), ())
    assert result.checks[0].endswith(f"within 0.0e+00 of their largest value, {WITHOUT_OPTIMIZATIONS}")


def test_what_differs_without_optimizations_too_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "run_passes", lambda *given: (text_model(NEGATED), []))
    with pytest.raises(CheckFailed, match=r"^onnx-graphsurgeon breaks the model: output 'y' differs by 2"):
        rewrite(text_model(NEGATED.replace("Neg", "Identity")), (), ())
