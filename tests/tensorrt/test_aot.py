"""Ops as quickly deployable plugins, taken through a build by TensorRT's own Python sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from custom_ops.plugin import uniad_custom_ops
from custom_ops.rotate.op import KERNEL
from tests.tensorrt.cases import CASES, OPEN, SAMPLE_OPS, Case, sized, strided
from tests.tensorrt.full_bindings import PACKAGE, DataType, Embedded, embed, full_tensorrt
from toolkit.errors import InputError
from toolkit.ops.kernel import LEFT_OUT, Launch, Shapes, dense_strides
from toolkit.ops.nvrtc import compile_kernel
from toolkit.ops.spec import Attributes, CustomOp
from toolkit.ops.tensorrt_aot import register_embedded, register_embedded_plugins

pytestmark = pytest.mark.thorough

pytest.importorskip("cuda.bindings", reason="compiling kernels needs cuda-bindings and NVRTC")

ARCHITECTURE = "compute_89"
OWN_TYPES = {"float32": DataType.FLOAT, "int32": DataType.INT32}
OPS = {op.name: op for op in (*uniad_custom_ops(), *SAMPLE_OPS)}
OP_CASES = [pytest.param(OPS[case.op], case, id=name) for name, case in CASES.items() if case.op in OPS]


@pytest.fixture
def trt() -> Iterator[ModuleType]:
    """A `tensorrt` in which nothing is registered yet."""
    if find_spec(PACKAGE) is None:
        pytest.skip("needs the Python sources of tensorrt-cu13-bindings")
    with full_tensorrt() as module:
        yield module


def fields(case: Case) -> list[Any]:
    """A node's attributes as the ONNX parser hands them over."""
    return [
        SimpleNamespace(
            name=name,
            data=np.frombuffer(value.encode() + b"\0", np.int8) if isinstance(value, str) else np.atleast_1d(value),
        )
        for name, value in case.attributes.items()
    ]


def build(
    trt: ModuleType, op: CustomOp, case: Case, size: int, dtype: DataType = DataType.FLOAT, *, dynamic: bool = False
) -> Embedded:
    """What an engine keeps of a case's node whose open size is `size` at run time; it is usually 5."""
    register_embedded_plugins(trt, [op], ARCHITECTURE)
    stated = [case.inputs.get(name, LEFT_OUT) for name in op.inputs]
    shapes = [sized(shape, size) for shape in stated]
    open_axes = [[axis for axis, extent in enumerate(s) if dynamic and extent == OPEN] for s in stated]
    types = [OWN_TYPES.get(port.dtype or "", dtype) for port in op.signature.inputs]
    return embed(trt, op.name, fields(case), shapes, types, open_axes=open_axes, usual=5)


def planned(op: CustomOp, case: Case, size: int, dtype: str) -> Launch:
    """The launch of the same call where all sizes are known."""
    assert op.kernel is not None
    shapes = [sized(case.inputs.get(name, LEFT_OUT), size) for name in op.inputs]
    return op.kernel.plan(shapes, [dense_strides(shape) for shape in shapes], dtype, case.attributes)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("op", "case"), OP_CASES)
def test_an_engine_gets_the_kernel_that_the_plan_says(trt: ModuleType, op: CustomOp, case: Case, dtype: str) -> None:
    kind = {"float32": DataType.FLOAT, "float16": DataType.HALF}[dtype]
    embedded, launch = build(trt, op, case, 5, kind), planned(op, case, 5, dtype)
    assert op.kernel is not None
    assert embedded.entry == op.kernel.entry
    assert embedded.code == compile_kernel(op.kernel.source, ARCHITECTURE, launch.macros)
    assert (embedded.grid, embedded.block, embedded.integers) == (launch.grid, launch.block, launch.integers)
    assert embedded.outputs == tuple(sized(shape, 5) for shape in case.outputs)
    assert embedded.output_types == tuple(OWN_TYPES.get(port.dtype or "", kind) for port in op.signature.outputs)


@pytest.mark.parametrize("size", [1, 7, 300])
@pytest.mark.parametrize(("op", "case"), OP_CASES)
def test_open_sizes_reach_the_launch_as_expressions(trt: ModuleType, op: CustomOp, case: Case, size: int) -> None:
    embedded, launch = build(trt, op, case, size, dynamic=True), planned(op, case, size, "float32")
    assert (embedded.grid, embedded.block, embedded.integers) == (launch.grid, launch.block, launch.integers)
    assert embedded.outputs == tuple(sized(shape, size) for shape in case.outputs)


def test_ptx_is_text_for_the_asked_architecture(trt: ModuleType) -> None:
    assert b".target sm_89" in build(trt, OPS["Rotate"], CASES["Rotate"], 5).code


def plan_of(launch: Callable[[Any], Launch]) -> CustomOp:
    """An op that plans its launch in its own way."""

    def plan(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
        return launch(shapes[0][0])

    kernel = type(KERNEL)(KERNEL.source, KERNEL.entry, plan)
    rotate = OPS["Rotate"]
    return CustomOp("Rotate", rotate.torch_op, rotate.body, kernel, output_shape=rotate.output_shape)


def test_an_open_size_in_a_macro_is_refused(trt: ModuleType) -> None:
    op = plan_of(lambda size: Launch({"SCALAR": "float", "SIZE": size}, (), (1, 1, 1), 32))
    with pytest.raises(InputError, match="needs a fixed size for SIZE"):
        build(trt, op, CASES["Rotate"], 5, dynamic=True)


def test_arithmetic_that_expressions_lack_is_refused(trt: ModuleType) -> None:
    op = plan_of(lambda size: Launch({}, (), (size % 3, 1, 1), 32))
    with pytest.raises(InputError, match="cannot do without fixed sizes"):
        build(trt, op, CASES["Rotate"], 5, dynamic=True)


def test_a_choice_by_an_open_size_goes_by_the_usual_one(trt: ModuleType) -> None:
    macros = planned(OPS["Rotate"], CASES["Rotate"], 5, "float32").macros
    op = plan_of(lambda size: Launch(macros, (), (1, 1, 1), 64 if size > 4 else 32))
    assert build(trt, op, CASES["Rotate"], 1, dynamic=True).block == 64


def test_tensors_of_two_types_or_of_another_are_refused(trt: ModuleType) -> None:
    with pytest.raises(InputError, match=r"one type, FP32 or FP16.*add casts"):
        build(trt, OPS["Inverse"], CASES["Inverse"], 5, DataType.BF16)


def test_a_tensor_of_another_type_than_the_op_states_is_refused(trt: ModuleType) -> None:
    """An engine would read the numbers of one type as those of another."""
    register_embedded_plugins(trt, [OPS["BevPool"]], ARCHITECTURE)
    with pytest.raises(InputError, match=r"'BevPool' takes 'ranks' as int32, but got DataType\.FLOAT; add a cast"):
        embed(
            trt,
            "BevPool",
            fields(CASES["BevPool"]),
            [(5,), (5, 3), (5,)],
            DataType.FLOAT,
            open_axes=[()] * 3,
            usual=5,
        )


def test_the_two_forms_of_a_plugin_do_not_meet(trt: ModuleType) -> None:
    taken = SimpleNamespace(name="Inverse", plugin_version="1")
    trt.get_plugin_registry().register_creator(taken, "uniad")
    with pytest.raises(InputError, match="its other form in another process"):
        register_embedded(trt, OPS["Inverse"], ARCHITECTURE)


def test_an_op_without_a_kernel_cannot_be_one(trt: ModuleType) -> None:
    op = CustomOp("Strided", strided, lambda attributes: "", output_shape=lambda shapes, attributes: shapes[0])
    with pytest.raises(InputError, match="has no kernel"):
        register_embedded(trt, op, ARCHITECTURE)
