"""Custom nodes of other deployments are recognised, and ours can be written as theirs."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto

from custom_ops.multi_scale_deformable_attention.op import multi_scale_deformable_attention
from custom_ops.rotate.op import rotate
from tests.graph.rewriting import op_types, rewritten, text_model
from toolkit.graph.equivalence import outputs_of
from toolkit.graph.random_inputs import random_inputs
from toolkit.graph.vendor.recognition import RECOGNISE_VENDOR_NODES
from toolkit.graph.vendor.spelling import TO_VENDOR_SPELLINGS
from toolkit.graph.vendor.tensorrt_attention import WHOLE_MODULE
from toolkit.plugin.manager import PluginManager

pytestmark = pytest.mark.converts

ATTENTION = """m (float[1, 20, 2, 4] value, float[1, 5, 1, 4] reference, float[1, 5, 2, 16] offsets,
    float[1, 5, 2, 8] logits) => (float[1, 5, 2, 4] y) {
    y = MultiScaleDeformableAttnTRT (value, shapes, reference, offsets, logits)
}"""
SHAPES = np.array([[3, 4], [2, 4]])
TENSORRT = """m (float[1, 20, 2, 4] value, float[1, 5, 2, 2] reference, float[1, 5, 2, 8] offsets,
    float[1, 5, 2, 4] logits) => (float[1, 5, 2, 4] y) {
    w = Softmax <axis = -1> (logits)
    weights = Reshape (w, weight_shape)
    o = Reshape (offsets, offset_shape)
    r = Unsqueeze (reference, axes)
    s = Div (o, sizes)
    locations = Add (r, s)
    y = MultiscaleDeformableAttnPlugin_TRT (value, shapes, starts, locations, weights)
}"""
WEIGHTS = {
    "shapes": SHAPES,
    "starts": np.array([0, 12]),
    "sizes": SHAPES[:, None, ::-1].astype(np.float32),
    "weight_shape": np.array([1, 5, 2, 2, 2]),
    "offset_shape": np.array([1, 5, 2, 2, 2, 2]),
    "axes": np.array([2, 4]),
}


def model_of(text: str) -> ModelProto:
    """A model in text form with those of `WEIGHTS` that it uses without taking them as inputs."""
    used = [name for name in WEIGHTS if re.search(rf"\b{name}\b", text) and f"] {name}" not in text]
    return text_model(text, **{name: WEIGHTS[name] for name in used})


def recognised(text: str) -> ModelProto:
    """A model in which every vendor node has become ours."""
    model, outcome = rewritten(model_of(text), RECOGNISE_VENDOR_NODES, compare=False)
    assert outcome.changes
    assert not outcome.near_misses
    return model


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def test_attention_of_the_reference_deployment() -> None:
    inputs = arrays((1, 20, 2, 4), (1, 5, 1, 4), (1, 5, 2, 16), (1, 5, 2, 8))
    model = recognised(ATTENTION)
    np.testing.assert_allclose(attended(model, inputs), expected(inputs), atol=1e-5)


def test_attention_of_tensorrt() -> None:
    inputs = arrays((1, 20, 2, 4), (1, 5, 2, 2), (1, 5, 2, 8), (1, 5, 2, 4))
    model = recognised(TENSORRT)
    np.testing.assert_allclose(attended(model, inputs), expected(inputs), atol=1e-5)
    assert "Div" not in op_types(model), "offsets in cells are taken as they are"


def test_attention_of_tensorrt_with_offsets_relative_to_the_map() -> None:
    value, reference, offsets, logits = arrays((1, 20, 2, 4), (1, 5, 2, 2), (1, 5, 2, 8), (1, 5, 2, 4))
    model = recognised(TENSORRT.replace("Div (o, sizes)", "Tanh (o)"))
    cells = np.tanh(offsets).reshape(1, 5, 2, 2, 2, 2) * WEIGHTS["sizes"]
    wanted = expected([value, reference, cells.reshape(1, 5, 2, 8).astype(np.float32), logits])
    np.testing.assert_allclose(attended(model, [value, reference, offsets, logits]), wanted, atol=1e-5)


def attended(model: ModelProto, inputs: list[np.ndarray]) -> np.ndarray:
    """What a model of one attention computes."""
    return outputs_of(model, dict(zip(("value", "reference", "offsets", "logits"), inputs, strict=True)))["y"]


def expected(inputs: list[np.ndarray]) -> np.ndarray:
    """The same by our op."""
    attention: torch.Tensor = multi_scale_deformable_attention(*map(torch.from_numpy, inputs), SHAPES.ravel().tolist())
    return attention.numpy()


@pytest.mark.parametrize(("number", "mode"), [(0, "bilinear"), (1, "nearest")])
def test_rotation(number: int, mode: str) -> None:
    text = "m (float[2, 5, 6] x, float[1] angle, float[2] center) => (float[2, 5, 6] y)"
    model = recognised(f"{text} {{ y = RotateTRT <interpolation = {number}> (x, angle, center) }}")
    (image,) = arrays((2, 5, 6))
    feeds = {"x": image, "angle": np.array([30], np.float32), "center": np.array([2, 3], np.float32)}
    expected = rotate(*map(torch.from_numpy, feeds.values()), mode)
    np.testing.assert_allclose(outputs_of(model, feeds)["y"], expected, atol=1e-5)


@pytest.mark.parametrize("op", ["InverseTRT", "com.microsoft.Inverse"])
@pytest.mark.parametrize("size", [3, 4])
def test_inverse(op: str, size: int) -> None:
    model = recognised(f"m (float[1, 1, {size}, {size}] x) => (float[1, 1, {size}, {size}] y) {{ y = {op} (x) }}")
    (matrix,) = arrays((1, 1, size, size))
    np.testing.assert_allclose(outputs_of(model, {"x": matrix})["y"], np.linalg.inv(matrix), rtol=1e-3, atol=1e-4)


LEFT_ALONE = {
    "sizes": (
        ATTENTION.replace("float[1, 5, 2, 8] logits)", "float[1, 5, 2, 8] logits, int64[2, 2] shapes)"),
        "constant",
    ),
    "locations": (ATTENTION.replace("reference, offsets, logits)\n", "offsets, logits)\n"), "it has 4 inputs"),
    "softmax": (
        ATTENTION.replace("y =", "s = Softmax (logits) y =").replace("offsets, logits)\n", "offsets, s)\n"),
        "Softmax",
    ),
    "references": (ATTENTION.replace("5, 1, 4]", "5, 2, 4]"), "not [B, Q, 1, 2D]"),
    "interpolation": (
        "m (float[1, 2, 2] x, float[1] a, float[2] c) => (float[1, 2, 2] y) { y = RotateTRT (x, a, c) }",
        "None",
    ),
    "matrices": ("m (float[5, 5] x) => (float[5, 5] y) { y = InverseTRT (x) }", "up to 4x4"),
    "weights": (TENSORRT.replace("w = Softmax <axis = -1>", "w = Sigmoid"), "do not come from a Softmax"),
    "axis": (
        TENSORRT.replace("w = Softmax <axis = -1>", "w = Softmax <axis = 1>"),
        "not over the points of all levels",
    ),
    "sum": (TENSORRT.replace("Add (r, s)", "Mul (r, s)"), "not a sum of reference points"),
}


@pytest.mark.parametrize(("text", "reason"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_is_not_provably_ours_is_left_alone(text: str, reason: str) -> None:
    _, outcome = rewritten(model_of(text), RECOGNISE_VENDOR_NODES, compare=False)
    assert not outcome.changes
    assert reason in outcome.near_misses[0].reason


@pytest.mark.parametrize(
    "text",
    [
        ATTENTION,
        "m (float[1, 5, 6] x, float[1] a, float[2] c) => (float[A] y) { y = RotateTRT <interpolation = 0> (x, a, c) }",
        "m (float[1, 1, 3, 3] x) => (float[1, 1, 3, 3] y) { y = InverseTRT (x) }",
    ],
)
def test_there_and_back(text: str) -> None:
    """What was recognised is written as it was."""
    model = model_of(text)
    ours, _ = rewritten(model, RECOGNISE_VENDOR_NODES, compare=False)
    back, outcome = rewritten(ours, TO_VENDOR_SPELLINGS, compare=False)
    assert len(outcome.changes) == 1
    [before], [after] = model.graph.node, back.graph.node
    assert after.op_type == before.op_type
    assert after.attribute == before.attribute
    assert after.domain == "TRT"
    onnx.checker.check_model(back)


def test_ops_without_a_counterpart_stay() -> None:
    text = """m (float[1, 20, 2, 4] value, float[1, 5, 2, 2] reference, float[1, 5, 2, 8] offsets,
        float[1, 5, 2, 4] logits) => (float[1, 5, 2, 4] y) {
        y = uniad.MultiScaleDeformableAttention <spatial_shapes = [3, 4, 2, 4]> (value, reference, offsets, logits)
    }"""
    _, outcome = rewritten(text_model(text), TO_VENDOR_SPELLINGS, compare=False)
    assert "are not [B, Q, 1, 2D]" in outcome.near_misses[0].reason


def test_the_spelling_pass_runs_only_when_asked_for() -> None:
    assert not TO_VENDOR_SPELLINGS.default
    assert replace(TO_VENDOR_SPELLINGS, default=True) not in PluginManager.load().graph_passes()


def test_attention_of_mmdeploy_gives_heads_in_one_axis() -> None:
    """The same arithmetic as TensorRT's plugin, then a reshape."""
    plugin = TENSORRT.replace("(float[1, 5, 2, 4] y)", "(float[1, 5, 8] y)")
    text = plugin.replace("MultiscaleDeformableAttnPlugin_TRT", "mmdeploy.MMCVMultiScaleDeformableAttention")
    ours, theirs = recognised(text), recognised(TENSORRT)
    inputs = random_inputs(ours)
    [joined], [apart] = (outputs_of(model, inputs).values() for model in (ours, theirs))
    np.testing.assert_array_equal(joined, apart.reshape(1, 5, 8))


def test_attention_of_mmdeploy_without_softmax_is_left_with_the_reason() -> None:
    text = """m (float[1, 20, 2, 4] value, float[1, 5, 2, 2, 2, 2] locations, float[1, 5, 2, 2, 2] weights)
        => (float[1, 5, 8] y) {
        y = mmdeploy.MMCVMultiScaleDeformableAttention (value, shapes, starts, locations, weights)
    }"""
    _, outcome = rewritten(model_of(text), RECOGNISE_VENDOR_NODES, compare=False)
    assert [miss.reason for miss in outcome.near_misses] == [
        "MMCVMultiScaleDeformableAttention: its weights do not come from a Softmax"
    ]
    assert [miss.remedy for miss in outcome.near_misses] == [WHOLE_MODULE]


@pytest.mark.parametrize(("number", "mode"), [(0, "bilinear"), (1, "nearest"), (2, "bicubic")])
def test_grid_sampler_of_mmdeploy_is_grid_sample(number: int, mode: str) -> None:
    text = f"""m (float[1, 3, 8, 8] x, float[1, 4, 4, 2] grid) => (float[1, 3, 4, 4] y) {{
        y = mmdeploy.grid_sampler <interpolation_mode = {number}, padding_mode = 1, align_corners = 0> (x, grid)
    }}"""
    model = recognised(text)
    [node] = model.graph.node
    assert (node.domain, node.op_type) == ("", "GridSample")
    inputs = random_inputs(model)
    expected = torch.nn.functional.grid_sample(
        torch.from_numpy(inputs["x"]), torch.from_numpy(inputs["grid"]), mode, "border", align_corners=False
    )
    np.testing.assert_allclose(outputs_of(model, inputs)["y"], expected.numpy(), atol=1e-5)


def test_unknown_modes_of_grid_sampler_are_left() -> None:
    text = """m (float[1, 3, 8, 8] x, float[1, 4, 4, 2] grid) => (float[1, 3, 4, 4] y) {
        y = mmdeploy.grid_sampler <interpolation_mode = 7, padding_mode = 0> (x, grid)
    }"""
    _, outcome = rewritten(model_of(text), RECOGNISE_VENDOR_NODES, compare=False)
    assert "0 to 2 with 2 are known" in outcome.near_misses[0].reason
