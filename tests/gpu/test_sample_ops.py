"""Kernels with integer inputs, several outputs, optional tensors and lists, on a GPU in every form of launch."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.sample_ops.bev_pool import BEV_POOL
from tests.sample_ops.blend import BLEND
from tests.sample_ops.pillar_scatter_max import PILLAR_SCATTER_MAX
from tests.sample_ops.top_scores import TOP_SCORES
from tests.tensorrt.full_bindings import PACKAGE, embed, full_tensorrt
from tests.tensorrt.full_bindings import DataType as FullType
from tests.tensorrt.stand_in import DataType, stand_in_tensorrt
from tests.tensorrt.stand_in import Tensor as Described
from toolkit.doctor.check import Status
from toolkit.doctor.op_trial import Trial, called
from toolkit.doctor.self_test import check_kernels
from toolkit.ops.kernel import LEFT_OUT, load_cupy
from toolkit.ops.spec import CustomOp
from toolkit.ops.tensorrt_aot import register_embedded_plugins
from toolkit.ops.tensorrt_plugin import new_plugin

OPS = [BEV_POOL, TOP_SCORES, BLEND, PILLAR_SCATTER_MAX]
TYPES = {torch.float32: "FLOAT", torch.float16: "HALF", torch.int32: "INT32"}
TOLERANCES = {torch.float32: 1e-5, torch.float16: 1e-2}


def inputs_on_gpu(op: CustomOp, dtype: torch.dtype) -> tuple[list[Tensor | None], dict[str, Any]]:
    """The op's example on the GPU, the tensors that share a type in `dtype`."""
    trial = Trial.of(op)
    ports = zip(op.signature.inputs, trial.inputs, strict=True)
    inputs = [None if x is None else x.to("cuda", dtype if port.dtype is None else x.dtype) for port, x in ports]
    return inputs, dict(trial.attributes)


def described(x: Tensor | None) -> Described:
    """A tensor as TensorRT describes it; one that is left out is empty."""
    return Described(LEFT_OUT) if x is None else Described(tuple(x.shape), DataType[TYPES[x.dtype]])


def test_kernels_equal_the_operators() -> None:
    checks = check_kernels(OPS)
    assert [check.status for check in checks] == [Status.OK] * len(OPS), [check.found for check in checks]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_torch_operator(op: CustomOp, dtype: torch.dtype) -> None:
    """The kernel against torch on the CPU, in the type of the op."""
    inputs, attributes = inputs_on_gpu(op, dtype)
    outputs = called(op, inputs, attributes)
    on_cpu = [None if x is None else x.cpu() for x in inputs]
    for actual, expected in zip(outputs, called(op, on_cpu, attributes), strict=True):
        tolerance = TOLERANCES.get(expected.dtype, 0)
        torch.testing.assert_close(actual.cpu(), expected, rtol=tolerance, atol=tolerance)


def test_optional_tensor_that_is_given() -> None:
    maps, bias = [torch.randn(9, device="cuda") for _ in range(2)], torch.randn(9, device="cuda")
    arguments = (maps, bias, [0.5, 2.0], torch.ones(9, device="cuda"), 1.0)
    expected = -(maps[0] * 0.5 + maps[1] * 2.0 + bias)
    torch.testing.assert_close(BLEND.torch_op(*arguments, negate=True), expected)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_plugin(op: CustomOp, dtype: torch.dtype) -> None:
    """`enqueue`, called with bare pointers and a stream as TensorRT does."""
    inputs, attributes = inputs_on_gpu(op, dtype)
    expected = called(op, inputs, attributes)
    outputs = [torch.full_like(x, -1) for x in expected]
    torch.cuda.synchronize()
    plugin = new_plugin(stand_in_tensorrt(), op, attributes)
    given, made = [described(x) for x in inputs], [described(x) for x in outputs]
    plugin.on_shape_change(given, made)
    stream = torch.cuda.Stream()
    pointers = [0 if x is None else x.data_ptr() for x in inputs]
    plugin.enqueue(given, made, pointers, [x.data_ptr() for x in outputs], 0, stream.cuda_stream)
    stream.synchronize()
    assert all(torch.equal(*pair) for pair in zip(outputs, expected, strict=True))


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason="needs the Python sources of tensorrt-cu13-bindings")
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_embedded_kernel(op: CustomOp, dtype: torch.dtype) -> None:
    """Launched from PTX by what an engine would hold."""
    inputs, attributes = inputs_on_gpu(op, dtype)
    expected = called(op, inputs, attributes)
    fields = [SimpleNamespace(name=name, data=np.atleast_1d(value)) for name, value in attributes.items()]
    shapes = [LEFT_OUT if x is None else tuple(x.shape) for x in inputs]
    types = [FullType.FLOAT if x is None else FullType[TYPES[x.dtype]] for x in inputs]
    with full_tensorrt() as trt:
        register_embedded_plugins(trt, [op], "compute_{}{}".format(*torch.cuda.get_device_capability()))
        embedded = embed(trt, op.name, fields, shapes, types, open_axes=[()] * len(shapes), usual=1)
    assert embedded.outputs == tuple(tuple(x.shape) for x in expected)

    module = load_cupy().cuda.function.Module()
    module.load(embedded.code)
    outputs = [torch.full_like(x, -1) for x in expected]
    arguments: list[Any] = [np.uint64(0 if x is None else x.data_ptr()) for x in inputs]
    arguments += [np.int32(value) for value in embedded.integers]
    arguments += [np.uint64(x.data_ptr()) for x in outputs]
    module.get_function(embedded.entry)(embedded.grid, (embedded.block, 1, 1), arguments)
    torch.cuda.synchronize()
    assert all(torch.equal(*pair) for pair in zip(outputs, expected, strict=True))
