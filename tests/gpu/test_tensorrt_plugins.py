"""The plugins' `enqueue` on a GPU, called as TensorRT calls it: bare pointers and a stream."""

from __future__ import annotations

import pytest
import torch

from custom_ops.plugin import uniad_custom_ops
from tests.tensorrt.stand_in import DataType, Tensor, stand_in_tensorrt
from toolkit.ops.spec import CustomOp
from toolkit.ops.tensorrt_plugin import new_plugin

TYPES = {torch.float32: DataType.FLOAT, torch.float16: DataType.HALF}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("op", uniad_custom_ops(), ids=lambda op: op.name)
def test_enqueue_equals_the_operator(op: CustomOp, dtype: torch.dtype) -> None:
    """The same kernel, so the same bits as the torch operator's on the op's example."""
    assert op.example is not None
    values = dict(zip([argument.name for argument in op.overload._schema.arguments], op.example(), strict=True))
    inputs = [values.pop(name).to("cuda", dtype).contiguous() for name in op.inputs]
    expected = op.torch_op(*inputs, **values)
    output = torch.full_like(expected, torch.nan)
    torch.cuda.synchronize()

    plugin = new_plugin(stand_in_tensorrt(), op, values)
    described = [Tensor(tuple(x.shape), TYPES[dtype]) for x in (*inputs, output)]
    plugin.on_shape_change(described[:-1], described[-1:])
    stream = torch.cuda.Stream()
    pointers = [x.data_ptr() for x in inputs]
    plugin.enqueue(described[:-1], described[-1:], pointers, [output.data_ptr()], 0, stream.cuda_stream)
    stream.synchronize()
    assert torch.equal(output, expected)
