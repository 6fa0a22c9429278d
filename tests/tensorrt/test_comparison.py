"""The model that TensorRT reads is compared with the one it was made of, or a sentence says why it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import ModelProto

from custom_ops.inverse.op import INVERSE
from custom_ops.modulated_deformable_convolution.op import MODULATED_DEFORMABLE_CONVOLUTION
from tests.graph.rewriting import text_model
from tests.graph.test_proof import looping
from toolkit.bounded.limits import Limits
from toolkit.engines.tensorrt import model as preparation
from toolkit.engines.tensorrt.library import Target
from toolkit.engines.tensorrt.model import PreparedModel, prepare_model
from toolkit.engines.tensorrt.settings import BuildSettings, CustomOps
from toolkit.errors import CheckFailed
from toolkit.graph import steps
from toolkit.graph.pipeline import rewrite
from toolkit.graph.steps import NOTHING_TO_COMPARE, Step, take_steps
from toolkit.ops.bodies import attach_bodies
from toolkit.precision import Precision

pytestmark = pytest.mark.thorough

SETTINGS = BuildSettings(Target.TENSORRT_RTX)
PRODUCT = "m (float[2, 2] x) => (float[2, 2] y) { y = MatMul (x, x) }"
INVERTED = "m (float[2, 3, 3] x) => (float[2, 3, 3] y) { y = uniad.Inverse (x) }"
CONVOLVED = """m (float[1, 2, 5, 6] x, float[1, 18, 5, 6] moves, float[1, 9, 5, 6] mask, float[4, 2, 3, 3] weight)
=> (float[1, 4, 5, 6] y) {
    y = uniad.ModulatedDeformableConvolution <stride = 1, padding = 1, dilation = 1> (x, moves, mask, weight)
}"""
ROUNDED = "not compared: what BF16 rounds; `verify` judges the engine on its GPU"


def prepared(folder: Path, model: ModelProto, precision: Precision = Precision.FP32) -> PreparedModel:
    onnx.save(model, folder / "m.onnx")
    return prepare_model(folder / "m.onnx", [INVERSE], (), replace(SETTINGS, precision=precision))


def with_body(body: str) -> ModelProto:
    """The model of one custom node, with this function behind it."""
    model = text_model(INVERTED)
    model.functions.append(onnx.parser.parse_function(f'<domain: "uniad", opset_import: ["" : 18]> {body}'))
    return model


def test_model_whose_nodes_stay_is_not_run(tmp_path: Path) -> None:
    """That its functions go, which leaves the nodes to plugins, is no change of what it means."""
    model = text_model(INVERTED)
    attach_bodies(model, [INVERSE])
    result = prepared(tmp_path, model)
    assert result.checks == (NOTHING_TO_COMPARE,)
    assert not result.model.functions
    assert prepared(tmp_path, text_model(INVERTED)) == result


def test_function_of_another_version_computes_the_same(tmp_path: Path) -> None:
    model = text_model(INVERTED)
    attach_bodies(model, [INVERSE])
    [function] = model.functions
    last = function.node[-1]
    function.node.append(onnx.helper.make_node("Identity", ["before_last"], list(last.output)))
    last.output[0] = "before_last"
    [check] = prepared(tmp_path, model).checks
    assert check.startswith("equal in ONNX Runtime on random inputs")


def test_functions_use_no_operator_that_tensorrt_lacks(tmp_path: Path) -> None:
    """In a model of opset 19 a deformable convolution is ONNX's, but not in one whose functions TensorRT reads."""
    model = text_model(CONVOLVED, 19)
    attach_bodies(model, [MODULATED_DEFORMABLE_CONVOLUTION])
    assert [node.op_type for node in model.functions[0].node] == ["DeformConv"]
    onnx.save(model, tmp_path / "m.onnx")
    for precision in (Precision.FP32, Precision.FP16):
        settings = replace(SETTINGS, precision=precision, custom_ops=CustomOps.FUNCTION)
        result = prepare_model(tmp_path / "m.onnx", [MODULATED_DEFORMABLE_CONVOLUTION], (), settings)
        [function] = result.model.functions
        assert "DeformConv" not in {node.op_type for node in function.node}


def test_function_that_computes_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed) as failure:
        prepared(tmp_path, with_body("Inverse (matrix) => (output) { output = Neg (matrix) }"))
    assert str(failure.value).startswith("exchanging the functions behind custom ops breaks the model: output 'y' ")


def test_reduced_precision_is_compared_up_to_where_it_rounds(tmp_path: Path) -> None:
    """BF16 needs a newer opset than the model has; FP16 leaves it as it is."""
    model = rewrite(text_model(PRODUCT), (), ()).model
    raised, rounded = prepared(tmp_path, model, Precision.BF16).checks
    assert raised.startswith("equal in ONNX Runtime on random inputs: 1 outputs within")
    assert rounded == ROUNDED
    checks = prepared(tmp_path, model, Precision.FP16).checks
    assert checks == (NOTHING_TO_COMPARE, ROUNDED.replace("BF16", "FP16"))


@pytest.mark.parametrize(("precision", "opset"), [(Precision.FP32, 16), (Precision.BF16, 22)])
def test_old_opset_is_raised_and_compared(tmp_path: Path, precision: Precision, opset: int) -> None:
    model = text_model("m (float[2, 3, 4] x) => (float[2, 3, 4] y) { y = Softmax <axis = 1> (x) }", 12)
    result = prepared(tmp_path, model, precision)
    said, found, *_ = result.checks
    assert said == f"opset 12 was raised to {opset} by ONNX's converter"
    assert found.startswith("equal in ONNX Runtime on random inputs")
    assert result.model.opset_import[0].version == opset


def test_step_that_breaks_the_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_wrongly(model: ModelProto, opset: int, ops: object) -> ModelProto:
        return text_model(PRODUCT.replace("MatMul (x, x)", "Add (x, x)"), opset)

    monkeypatch.setattr(preparation, "raise_opset", raise_wrongly)
    with pytest.raises(CheckFailed, match=r"^the conversion to opset 22 breaks the model: output 'y' differs by "):
        prepared(tmp_path, text_model(PRODUCT), Precision.BF16)


def test_first_step_at_fault_is_named() -> None:
    def negated(model: ModelProto) -> ModelProto:
        return text_model("m (float[2] x) => (float[2] y) { y = Neg (x) }")

    model = text_model("m (float[2] x) => (float[2] y) { y = Exp (x) }")
    planted = [Step("the first", lambda before: before), Step("the second", negated), Step("the third", negated)]
    with pytest.raises(
        CheckFailed, match=r"^the second breaks the model: output 'y' differs by .* nothing was written"
    ):
        take_steps(model, planted)


def test_model_that_onnx_runtime_cannot_run(tmp_path: Path) -> None:
    model = text_model("m (float[2, 2] x) => (float[2, 2] y) { a = TRT.Foo (x) y = MatMul (a, a) }")
    raised, _ = prepared(tmp_path, model, Precision.BF16).checks
    assert raised.startswith("not compared: ONNX Runtime cannot run the model: ")
    assert "Foo" in raised


def test_model_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "default_limits", lambda model: Limits(seconds=1, bytes=2**29))
    endless = looping(2**62)
    _, check = take_steps(endless, [Step("another", lambda before: looping(2**61))])
    assert check == "not compared: running the model before and after did not end within 1 s"
