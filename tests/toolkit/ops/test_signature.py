"""What torch operators may take and give: as schema, function body in ONNX Runtime, precision, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from torch import Tensor

from custom_ops.inverse.op import INVERSE
from custom_ops.rotate.op import KERNEL as ROTATE_KERNEL
from tests.sample_ops.bev_pool import BEV_POOL
from tests.sample_ops.blend import BLEND
from tests.sample_ops.top_scores import TOP_SCORES
from toolkit.doctor.check import Status
from toolkit.doctor.op_trial import Trial
from toolkit.doctor.self_test import check_custom_ops, compare, converted, relative_error
from toolkit.errors import InputError
from toolkit.graph.pipeline import run_passes
from toolkit.graph.precision.policy import BF16, FP16
from toolkit.graph.precision.precision_pass import precision_pass
from toolkit.ops.bodies import attach_bodies, fill_left_out
from toolkit.ops.calls import Call
from toolkit.ops.cuda import shared_dtype
from toolkit.ops.spec import CustomOp, registered_schemas

pytestmark = pytest.mark.thorough

SAMPLES = (BEV_POOL, TOP_SCORES, BLEND)
MAPS = [torch.randn(7, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
HEIGHT, BIAS = torch.linspace(-1, 1, 7), torch.ones(7)


@pytest.mark.parametrize("op", SAMPLES, ids=lambda op: op.name)
def test_torch_contract(op: CustomOp) -> None:
    """Schema, fake tensors and tracing agree with the implementation."""
    trial = Trial.of(op)
    positional, named = op.signature.call(trial.inputs, trial.attributes)
    torch.library.opcheck(op.torch_op, tuple(positional), named)


@pytest.mark.converts
def test_every_part_agrees_with_torch() -> None:
    """Fake, output shape, body and kernel, and the exported nodes in ONNX Runtime."""
    checks = check_custom_ops(SAMPLES)
    assert [check.status for check in checks] == [Status.OK] * 3, [check.found for check in checks]


CALLS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "with a bias, scaled, by position": lambda: (MAPS, BIAS, [0.5, 2.0], HEIGHT, 3.0),
    "with a weight of zero": lambda: (MAPS, BIAS, [0.0, -1.0], HEIGHT),
    "without a bias": lambda: (MAPS, None, [0.5, 2.0], HEIGHT),
}


@pytest.mark.converts
@pytest.mark.parametrize("example", CALLS.values(), ids=CALLS)
def test_optional_tensors_lists_and_defaults_in_onnx_runtime(example: Callable[[], tuple[Any, ...]]) -> None:
    trial = Trial.of(replace(BLEND, example=example))
    equal, found = compare("ONNX Runtime", trial, converted([trial]))
    assert equal, found


def test_node_of_every_kind_of_argument() -> None:
    """Tensors are inputs, those of a list by number; all else is an attribute; integers have types of their own."""
    assert BLEND.inputs == ("maps_0", "maps_1", "bias", "height")
    assert BLEND.attributes == {"weights": "List[float]", "scale": "float", "negate": "bool"}
    schema = BLEND.schema()
    assert [parameter.type_str for parameter in schema.inputs] == ["T", "T", "T", "tensor(float)"]
    assert [name for name, attribute in schema.attributes.items() if attribute.required] == ["weights"]
    assert [parameter.type_str for parameter in TOP_SCORES.schema().outputs] == ["T", "tensor(int32)"]
    assert [parameter.type_str for parameter in BEV_POOL.schema().inputs] == ["T", "T", "tensor(int32)"]


def test_call_with_defaults() -> None:
    call = Call.of(BLEND, (MAPS, None, [0.5, 2.0], HEIGHT), {"negate": True})
    assert call.attributes == {"weights": [0.5, 2.0], "scale": 2.0, "negate": True}
    assert call.shapes == [(7,), (7,), (0,), (7,)]
    assert call.launch("float16").macros["HAS_BIAS"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MAPS, None, [1.0, 1.0]), "op 'Blend' takes the arguments maps, bias, weights, height, scale, negate"),
        ((MAPS[:1], None, [1.0, 1.0], HEIGHT), "argument 'maps' is a list of 2 tensors, not 1"),
    ],
    ids=["a missing argument", "a list of another length"],
)
def test_call_that_does_not_fit(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BLEND.signature.bind(arguments, {})


@pytest.mark.parametrize(
    ("op", "inputs", "message"),
    [
        (BEV_POOL, [torch.ones(2), torch.ones(2, 3), torch.ones(2)], "takes 'ranks' as int32, not as float32"),
        (BEV_POOL, [torch.ones(2), torch.ones(2, 3).half(), torch.ones(2).int()], "'features' as float32, not as flo"),
        (BLEND, [*MAPS, None, HEIGHT.half()], "op 'Blend' takes 'height' as float32, not as float16"),
        (TOP_SCORES, [torch.ones(2).bfloat16()], "the kernel of op 'TopScores' has no bfloat16 code; use one of"),
    ],
    ids=["floats for integers", "two types where one is shared", "reduced coordinates", "a type without code"],
)
def test_types_that_a_kernel_does_not_read(op: CustomOp, inputs: Sequence[Tensor | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        shared_dtype(op, inputs)


def blended_features() -> ModelProto:
    """A product of features [7, 7], blended twice: once with a bias, once without."""
    info = make_tensor_value_info
    attributes: dict[str, Any] = {"weights": [0.25, 0.75], "scale": 2.0, "negate": 0}
    nodes = [
        make_node("MatMul", ["x", "w"], ["product"], "product"),
        make_node("Blend", ["product", "x", "", "height"], ["a"], "plain", domain="uniad", **attributes),
        make_node("Blend", ["product", "x", "x", "height"], ["b"], "biased", domain="uniad", **attributes),
        make_node("Add", ["a", "b"], ["y"], "sum"),
    ]
    weights = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    graph = make_graph(
        nodes,
        "graph",
        [info("x", TensorProto.FLOAT, [32, 32]), info("height", TensorProto.FLOAT, [32])],
        [info("y", TensorProto.FLOAT, [32, 32])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = make_model(graph, ir_version=10, opset_imports=[make_opsetid("", 18), make_opsetid("uniad", 1)])
    attach_bodies(model, [BLEND])
    return model


def test_coordinates_stay_in_fp32() -> None:
    """The features that an op samples are reduced; what it states as float32 is not, and needs no cast."""
    model, _ = run_passes(blended_features(), [precision_pass(FP16.with_ops([BLEND]))], [BLEND])
    blends = [node for node in model.graph.node if node.op_type == "Blend"]
    made = {output: node for node in model.graph.node for output in node.output}
    for node in blends:
        assert node.input[3] == "height"
        assert {made[name].op_type for name in node.input[:3] if name} <= {"MatMul", "Cast"}
    with registered_schemas([BLEND]):
        onnx.checker.check_model(model, full_check=True)


def test_kernels_without_bf16_are_left_in_fp32() -> None:
    _, [outcome] = run_passes(blended_features(), [precision_pass(BF16.with_ops([BLEND]))], [BLEND])
    assert {miss.node for miss in outcome.outcome.near_misses} >= {"plain", "biased"}


def test_function_without_the_input_that_is_left_out() -> None:
    """A node with the optional input and one without get a function each."""
    model = blended_features()
    assert [(node.name, node.overload) for node in model.graph.node if node.overload] == [
        ("plain", "form_1"),
        ("biased", "form_2"),
    ]


def test_a_plugin_gets_an_empty_tensor_for_what_is_left_out() -> None:
    model = blended_features()
    fill_left_out(model, [BLEND, INVERSE])
    [plain] = [node for node in model.graph.node if node.name == "plain"]
    [empty] = [tensor for tensor in model.graph.initializer if tensor.name == plain.input[2]]
    assert (list(empty.dims), empty.data_type) == ([0], TensorProto.FLOAT)


def define(name: str, function: Callable[..., Any], schema: str | None = None) -> Any:
    """A torch operator that is never called."""
    return torch.library.custom_op(f"uniad_tests::{name}", function, mutates_args=(), schema=schema)


def choice(x: Tensor, mode: int | None) -> Tensor:
    raise NotImplementedError


def listed(xs: Sequence[Tensor]) -> Tensor:
    raise NotImplementedError


def measured(x: Tensor) -> float:
    raise NotImplementedError


def counted(x: Tensor) -> tuple[Tensor, int]:
    raise NotImplementedError


def ranked(ranks: Tensor, scale: float) -> Tensor:
    raise NotImplementedError


REFUSED: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "an optional number": (
        choice,
        {},
        r"op 'Sample': argument 'mode' has the type Optional\[int\]; possible are Tensor, Optional\[Tensor\], a list",
    ),
    "a list without a length": (
        listed,
        {},
        r"argument 'xs' is a list of tensors; state how many: CustomOp\(",
    ),
    "a number as a result": (measured, {}, "op 'Sample' returns float; possible are one or more Tensors"),
    "a tensor and a number": (counted, {"outputs": ("a", "b")}, "op 'Sample' returns Tensor, int; possible are"),
    "names for too many results": (
        ranked,
        {"outputs": ("a", "b")},
        "op 'Sample' returns 1 tensors, but its outputs are a, b; name each",
    ),
    "a type for no tensor": (
        ranked,
        {"types": {"scale": "int32"}},
        "types names 'scale', which is none of its tens",
    ),
    "a type that there is not": (
        ranked,
        {"types": {"ranks": "uint8"}},
        "types gives 'ranks' the type 'uint8'; use",
    ),
    "a length for no list": (ranked, {"lengths": {"ranks": 2}}, "lengths names 'ranks', which is no list of tensors"),
    "two tensors of one name": (ranked, {"outputs": ("ranks",)}, "op 'Sample' has several tensors named 'ranks'"),
    "a result whose type nobody knows": (
        ranked,
        {"types": {"ranks": "int32"}},
        r"'output' has the floating-point type of the inputs, but none that is always there has it; state a type",
    ),
}


@pytest.mark.parametrize(("function", "stated", "message"), REFUSED.values(), ids=REFUSED)
def test_signature_that_cannot_be_a_node(function: Callable[..., Any], stated: dict[str, Any], message: str) -> None:
    """Said when the op is stated, with the op, the argument and what is possible."""
    operator = define(f"{function.__name__}_{len(REFUSED)}", function)
    with pytest.raises(InputError, match=message):
        CustomOp("Sample", operator, lambda attributes: "", **stated)


def test_argument_that_is_changed_in_place() -> None:
    operator = torch.library.custom_op("uniad_tests::changed", mutates_args=("x",))(changed)
    with pytest.raises(InputError, match="argument 'x' is changed in place; return a new tensor instead"):
        CustomOp("Sample", operator, lambda attributes: "")


def changed(x: Tensor) -> Tensor:
    raise NotImplementedError


def test_kernel_that_does_not_exist() -> None:
    kernel = replace(ROTATE_KERNEL, source=ROTATE_KERNEL.source.with_name("nowhere.cu"))
    with pytest.raises(InputError, match=r"op 'Inverse': its kernel .*nowhere\.cu does not exist; put the file there"):
        replace(INVERSE, kernel=kernel)


INFINITE = np.array([np.inf, -np.inf, np.nan, 4.0])


@pytest.mark.parametrize(
    ("actual", "error"),
    [
        (INFINITE, 0.0),
        ([np.inf, -np.inf, np.nan, 5.0], 0.25),
        ([np.inf, np.inf, np.nan, 4.0], np.inf),
        ([np.inf, -np.inf, 0.0, 4.0], np.inf),
        ([0.0, -np.inf, np.nan, 4.0], np.inf),
    ],
    ids=["alike", "a number off", "another sign", "a number for NaN", "a number for an infinity"],
)
def test_infinities_and_nan_equal_themselves(actual: Sequence[float], error: float) -> None:
    assert relative_error(INFINITE, np.asarray(actual)) == error


def test_nothing_differs_from_nothing() -> None:
    assert relative_error(np.empty((0, 3)), np.empty((0, 3))) == 0.0


def test_the_empty_tensor_of_a_plugin_is_left_out_of_a_function() -> None:
    """Also where a model in plugin form gets its functions back."""
    model = blended_features()
    before = [function.SerializeToString() for function in model.functions]
    fill_left_out(model, [BLEND])
    attach_bodies(model, [BLEND])
    assert [function.SerializeToString() for function in model.functions] == before
