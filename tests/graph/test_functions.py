"""Local functions are inlined with the values that ONNX Runtime gives to attributes which their calls leave out."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from onnx import ModelProto

from tests.graph.rewriting import op_types, text_model
from toolkit.engines.onnxruntime_profile import inline_named
from toolkit.errors import InputError
from toolkit.graph.equivalence import outputs_of
from toolkit.graph.functions import inline_functions
from toolkit.graph.opset import raise_opset
from toolkit.graph.pipeline import rewrite

X = np.array([-1, 1], np.float32)
LEAKY = "Leaky <alpha: float = 0.2> (x) => (y) { y = LeakyRelu <alpha: float = @alpha> (x) }"
"""The operator's own default is 0.01."""
PASSES_ON = "Outer <slope> (x) => (y) { y = TRT.Leaky <alpha: float = @slope> (x) }"
PASSES_DEFAULT_ON = "Outer <slope: float = 0.3> (x) => (y) { y = TRT.Leaky <alpha: float = @slope> (x) }"
LEAVES_OUT = "Outer <slope: float = 0.3> (x) => (y) { y = TRT.Leaky (x) }"
IN_BRANCH = """Outer <slope: float = 0.3> (x) => (y) {
    c = Constant <value_int = 1> () d = Cast <to = 9> (c)
    y = If (d) <then_branch = t () => (a) { a = TRT.Leaky <alpha: float = @slope> (x) },
                else_branch = e () => (b) { b = TRT.Leaky (x) }>
}"""
CALL_IN_BRANCH = """c = Constant <value_int = 1> () d = Cast <to = 9> (c)
    y = If (d) <then_branch = t () => (a) { a = TRT.Leaky (x) }, else_branch = e () => (b) { b = Neg (x) }>"""


def calling(call: str, *functions: str, opset: int = 18) -> ModelProto:
    """A model of two floats with these nodes, and functions of the domain TRT."""
    model = text_model(f"m (float[2] x) => (float[2] y) {{ {call} }}")
    head = f'<domain: "TRT", opset_import: ["" : {opset}, "TRT" : 1]> '
    model.functions.extend(onnx.parser.parse_function(head + function) for function in functions)
    return model


DEFAULTS = {
    "left out": (calling("y = TRT.Leaky (x)", LEAKY), -0.2),
    "stated": (calling("y = TRT.Leaky <alpha = 0.7> (x)", LEAKY), -0.7),
    "left out in a branch": (calling(CALL_IN_BRANCH, LEAKY), -0.2),
    "passed on, left out": (calling("y = TRT.Outer (x)", LEAKY, PASSES_ON), -0.2),
    "passed on, stated": (calling("y = TRT.Outer <slope = 0.7> (x)", LEAKY, PASSES_ON), -0.7),
    "passed on by default": (calling("y = TRT.Outer (x)", LEAKY, PASSES_DEFAULT_ON), -0.3),
    "left out within": (calling("y = TRT.Outer (x)", LEAKY, LEAVES_OUT), -0.2),
    "left out within, stated outside": (calling("y = TRT.Outer <slope = 0.7> (x)", LEAKY, LEAVES_OUT), -0.2),
    "passed on in a branch": (calling("y = TRT.Outer (x)", LEAKY, IN_BRANCH), -0.3),
    "called inside and outside": (calling("z = TRT.Outer (x) y = TRT.Leaky (z)", LEAKY, PASSES_DEFAULT_ON), -0.06),
}


@pytest.mark.parametrize(("model", "expected"), DEFAULTS.values(), ids=DEFAULTS)
def test_attributes_that_calls_leave_out_keep_their_defaults(model: ModelProto, expected: float) -> None:
    inlined = inline_functions(model)
    assert not inlined.functions
    for form in (model, inlined):
        np.testing.assert_allclose(outputs_of(form, {"x": X})["y"], [expected, 1.0], rtol=1e-6)


def test_the_model_itself_stays_as_it_is() -> None:
    model = calling("y = TRT.Outer (x)", LEAKY, PASSES_ON)
    before = model.SerializeToString(deterministic=True)
    inline_functions(model)
    assert model.SerializeToString(deterministic=True) == before


def test_overloads_of_one_name_have_defaults_of_their_own() -> None:
    overloads = [
        f"<alpha: float = {alpha}> (x) => (y) {{ y = LeakyRelu <alpha: float = @alpha> (x) }}" for alpha in (0.2, 0.5)
    ]
    model = calling("z = TRT.Leaky:a (x) y = TRT.Leaky:b (z)", *(f"Leaky {body}" for body in overloads))
    model.functions[0].overload, model.functions[1].overload = "a", "b"
    np.testing.assert_allclose(outputs_of(inline_functions(model), {"x": X})["y"], [-0.1, 1.0], rtol=1e-6)


def test_a_function_of_another_opset_stays_with_what_it_calls() -> None:
    old = calling("", LEAKY, opset=18).functions[0], calling("", LEAVES_OUT, opset=16).functions[0]
    model = calling("z = TRT.Leaky (x) y = TRT.Outer (z)")
    model.functions.extend(old)
    inlined = inline_functions(model)
    assert op_types(inlined) == ["LeakyRelu", "Outer"]
    assert sorted(function.name for function in inlined.functions) == ["Leaky", "Outer"]


def test_functions_in_a_circle_are_refused() -> None:
    model = calling("y = TRT.A (x)", "A (x) => (y) { y = TRT.B (x) }", "B (x) => (y) { y = TRT.A (x) }")
    with pytest.raises(InputError, match=r"call each other in a circle, '[AB]' -> '[AB]' -> '[AB]'"):
        inline_functions(model)


def test_rewriting_and_conversion_to_a_newer_opset_keep_defaults() -> None:
    model = calling("y = TRT.Outer (x)", LEAKY, PASSES_DEFAULT_ON)
    assert "equal in ONNX Runtime" in rewrite(model, [], ()).checks[0]
    np.testing.assert_allclose(outputs_of(raise_opset(model, 21, ()), {"x": X})["y"], [-0.3, 1.0], rtol=1e-6)


def test_a_profile_runs_the_same_model() -> None:
    model = calling("y = TRT.Leaky (x)", LEAKY)
    np.testing.assert_allclose(outputs_of(inline_named(model), {"x": X})["y"], [-0.2, 1.0], rtol=1e-6)
