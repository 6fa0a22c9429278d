"""The op in torch, in ONNX Runtime, and its kernel."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from toolkit.doctor.check import Status
from toolkit.doctor.engine_trial import check_engine
from toolkit.doctor.self_test import check_custom_ops, check_kernels
from toolkit.ops.calls import Call
from toolkit.ops.precompile import compile_calls

from .op import NEW_OP, example, new_op


def test_eager_equals_the_formula() -> None:
    x, slope = example()
    x = x.double()
    torch.testing.assert_close(new_op(x, slope), x / (1 + torch.exp(-slope * x)))


def test_torch_contract() -> None:
    """Schema, fake tensors and tracing agree with the implementation."""
    torch.library.opcheck(new_op, example())


def test_onnx_runtime_equals_eager() -> None:
    """Exported as one node, and computed by its function body."""
    (check,) = check_custom_ops([NEW_OP])
    assert check.status is Status.OK, check.found


def test_kernel_compiles() -> None:
    """In FP32 and FP16, without a GPU."""
    pytest.importorskip("cuda.bindings", reason="needs pip install 'uniad-toolkit[cuda]'")
    call = Call.of_example(NEW_OP)
    assert call is not None
    assert [compiled.dtype for compiled in compile_calls([call], ["sm_86"])] == ["float32", "float16"]


@pytest.mark.skipif(find_spec("tensorrt_rtx_bindings") is None, reason="needs 'uniad-toolkit[tensorrt-rtx]'")
def test_tensorrt_builds_an_engine() -> None:
    """With the op as a plugin, in FP32 and FP16, for a GPU that need not be here."""
    check = check_engine(NEW_OP)
    assert check.status is Status.OK, check.found


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_kernel_equals_eager() -> None:
    (check,) = check_kernels([NEW_OP])
    assert check.status is Status.OK, check.found
