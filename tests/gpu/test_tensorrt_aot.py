"""The kernels that engines embed, launched on a GPU as TensorRT launches them: by PTX, name, grid and arguments."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from custom_ops.plugin import uniad_custom_ops
from tests.tensorrt.full_bindings import PACKAGE, DataType, embed, full_tensorrt
from toolkit.ops.kernel import load_cupy
from toolkit.ops.spec import CustomOp
from toolkit.ops.tensorrt_aot import register_embedded_plugins

TYPES = {torch.float32: DataType.FLOAT, torch.float16: DataType.HALF}


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason="needs the Python sources of tensorrt-cu13-bindings")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("op", uniad_custom_ops(), ids=lambda op: op.name)
def test_the_embedded_kernel_equals_the_operator(op: CustomOp, dtype: torch.dtype) -> None:
    """Embedded with an open first axis, so that the sizes come as arguments; the torch operator's bits."""
    assert op.example is not None
    values = dict(zip([argument.name for argument in op.overload._schema.arguments], op.example(), strict=True))
    inputs = [values.pop(name).to("cuda", dtype).contiguous() for name in op.inputs]
    expected = op.torch_op(*inputs, **values)
    fields = [
        SimpleNamespace(name=n, data=np.frombuffer(v.encode(), np.int8) if isinstance(v, str) else np.atleast_1d(v))
        for n, v in values.items()
    ]
    with full_tensorrt() as trt:
        register_embedded_plugins(trt, [op], "compute_{}{}".format(*torch.cuda.get_device_capability()))
        shapes = [tuple(x.shape) for x in inputs]
        open_axes = [(0,)] + [()] * (len(shapes) - 1)
        embedded = embed(trt, op.name, fields, shapes, TYPES[dtype], open_axes=open_axes, usual=shapes[0][0])
    assert embedded.output == tuple(expected.shape)

    cupy = load_cupy()
    module = cupy.cuda.function.Module()
    module.load(embedded.code)
    output = torch.full_like(expected, torch.nan)
    integers = [np.int32(value) for value in embedded.integers]
    arguments = [*(np.uint64(x.data_ptr()) for x in inputs), *integers, np.uint64(output.data_ptr())]
    module.get_function(embedded.entry)(embedded.grid, (embedded.block, 1, 1), arguments)
    torch.cuda.synchronize()
    assert torch.equal(output, expected)
