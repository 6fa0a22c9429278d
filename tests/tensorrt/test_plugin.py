"""What a plugin answers and launches, with a stand-in for TensorRT."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from custom_ops.inverse.op import INVERSE, KERNEL
from custom_ops.plugin import uniad_custom_ops
from custom_ops.rotate.op import ROTATE
from tests.tensorrt.cases import STRIDED
from tests.tensorrt.stand_in import DataType, Tensor, TensorFormat, stand_in_tensorrt
from toolkit.errors import InputError
from toolkit.ops import tensorrt_plugin
from toolkit.ops.kernel import Launch, Shapes
from toolkit.ops.spec import Attributes, CustomOp
from toolkit.ops.tensorrt_plugin import new_plugin, register_plugins

BILINEAR = {"interpolation": "bilinear"}


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Arguments of every launch that would happen on GPU 3."""
    noted: list[tuple[Any, ...]] = []
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(getDevice=lambda: 3)))
    monkeypatch.setattr(tensorrt_plugin, "load_cupy", lambda: cupy)
    monkeypatch.setattr(tensorrt_plugin, "run_kernel", lambda *arguments: noted.append(arguments))
    return noted


@pytest.mark.parametrize(("kind", "scalar"), [(DataType.FLOAT, "float"), (DataType.HALF, "__half")])
def test_enqueue_launches_the_kernel(kind: DataType, scalar: str, launches: list[tuple[Any, ...]]) -> None:
    """On TensorRT's stream and the current GPU, for the last shapes and the type that were set."""
    plugin = new_plugin(stand_in_tensorrt(), ROTATE, BILINEAR)
    for height in (7, 5):
        image = Tensor((2, height, 6), kind)
        inputs = [image, Tensor((1,), kind), Tensor((2,), kind)]
        plugin.on_shape_change(inputs, [image])
    plugin.enqueue(inputs, [image], [101, 102, 103], [104], 0, 77)
    ((kernel, launch, pointers, device, stream, outputs),) = launches
    assert kernel is ROTATE.kernel
    assert launch.integers == (2, 5, 6)
    assert launch.macros["SCALAR"] == scalar
    assert (pointers, device, stream, outputs) == ([101, 102, 103, 104], 3, 77, 1)


def test_plan_sees_dense_strides() -> None:
    def plan(shapes: Shapes, strides: Shapes, dtype: str, attributes: Attributes) -> Launch:
        assert (shapes, strides, dtype, attributes) == ([(5, 3, 3)], [(9, 3, 1)], "float32", {})
        return launch

    launch = Launch({}, (), (1, 1, 1), 32)
    op = replace(INVERSE, kernel=replace(KERNEL, plan=plan))
    plugin = new_plugin(stand_in_tensorrt(), op, {})
    plugin.on_shape_change([Tensor((5, 3, 3))], [Tensor((5, 3, 3))])
    assert plugin.launch is launch


def test_clone_keeps_the_planned_launch() -> None:
    """An execution context gets a plugin of its own."""
    plugin = new_plugin(stand_in_tensorrt(), ROTATE, BILINEAR)
    image = Tensor((2, 5, 6))
    plugin.on_shape_change([image, Tensor((1,)), Tensor((2,))], [image])
    attached = plugin.attach_to_context(None)
    assert attached is not plugin
    assert (attached.launch, attached.attributes) == (plugin.launch, BILINEAR)


@pytest.mark.parametrize(
    ("tensors", "accepted"),
    [
        ([Tensor((2,)), Tensor((2,))], True),
        ([Tensor((2,), DataType.HALF), Tensor((2,), DataType.HALF)], True),
        ([Tensor((2,)), Tensor((2,), DataType.HALF)], False),
        ([Tensor((2,), DataType.INT32), Tensor((2,), DataType.INT32)], False),
        ([Tensor((2,)), Tensor((2,), format=TensorFormat.HWC)], False),
    ],
    ids=["FP32", "FP16", "mixed", "integers", "channels last"],
)
def test_formats(tensors: list[Tensor], accepted: bool) -> None:
    """Linear tensors, all FP32 or all FP16."""
    plugin = new_plugin(stand_in_tensorrt(), INVERSE, {})
    assert plugin.supports_format_combination(1, tensors, 1) is accepted


def test_ops_are_registered_once() -> None:
    trt = stand_in_tensorrt()
    register_plugins(trt, uniad_custom_ops())
    register_plugins(trt, uniad_custom_ops())
    registered = [(creator.name, namespace) for creator, namespace in trt.get_plugin_registry().creators]
    assert registered == [(op.name, "uniad") for op in uniad_custom_ops()]


def test_name_that_is_taken() -> None:
    trt = stand_in_tensorrt()
    register_plugins(trt, [ROTATE])
    with pytest.raises(InputError, match="TensorRT already has another plugin 'Rotate' in namespace 'uniad'"):
        register_plugins(trt, [replace(INVERSE, name="Rotate")])


@pytest.mark.parametrize(
    ("op", "missing"),
    [(replace(INVERSE, kernel=None), "kernel"), (replace(INVERSE, output_shape=None), "output_shape")],
    ids=["kernel", "output_shape"],
)
def test_op_that_states_too_little(op: CustomOp, missing: str) -> None:
    with pytest.raises(InputError, match=f"op 'Inverse' has no {missing}, so it cannot be a TensorRT plugin"):
        register_plugins(stand_in_tensorrt(), [op])


def test_integer_beyond_32_bits() -> None:
    attributes = {"padding": 1 << 40, "stride": 1, "scale": 0.5}
    with pytest.raises(InputError, match="attribute 'padding' of op 'Strided' is 1099511627776"):
        new_plugin(stand_in_tensorrt(), STRIDED, attributes)


def test_missing_field() -> None:
    trt = stand_in_tensorrt()
    register_plugins(trt, [ROTATE])
    ((creator, _),) = trt.get_plugin_registry().creators
    with pytest.raises(InputError, match="a node of op 'Rotate' lacks the attribute 'interpolation'"):
        creator.create_plugin("the_node", [], None)
