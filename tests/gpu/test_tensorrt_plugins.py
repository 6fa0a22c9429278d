"""The plugins' `enqueue` on a GPU, called as TensorRT calls it: bare pointers and a stream."""

from __future__ import annotations

import pytest
import torch

from custom_ops.plugin import uniad_custom_ops
from tests.tensorrt.cases import CASES, Case, sized
from tests.tensorrt.stand_in import DataType, Tensor, stand_in_tensorrt
from toolkit.ops.tensorrt_plugin import new_plugin

OPS = {op.name: op for op in uniad_custom_ops()}
TYPES = {torch.float32: DataType.FLOAT, torch.float16: DataType.HALF}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items() if case.op in OPS])
def test_enqueue_equals_the_operator(case: Case, dtype: torch.dtype) -> None:
    """The same kernel, so the same bits as the torch operator's, for every size that the plugin is told in turn."""
    op = OPS[case.op]
    plugin = new_plugin(stand_in_tensorrt(), op, case.attributes)
    for size in (5, 9, 1):
        inputs = [torch.rand(sized(shape, size), device="cuda").to(dtype) for shape in case.inputs.values()]
        expected = op.torch_op(*inputs, **case.attributes)
        output = torch.full_like(expected, torch.nan)
        torch.cuda.synchronize()

        described = [Tensor(tuple(x.shape), TYPES[dtype]) for x in (*inputs, output)]
        plugin.on_shape_change(described[:-1], described[-1:])
        stream = torch.cuda.Stream()
        pointers = [x.data_ptr() for x in inputs]
        plugin.enqueue(described[:-1], described[-1:], pointers, [output.data_ptr()], 0, stream.cuda_stream)
        stream.synchronize()
        assert expected.isfinite().all()
        assert torch.equal(output, expected)
