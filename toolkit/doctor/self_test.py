"""A conversion in small: every custom op is exported, runs in ONNX Runtime, and is compared with torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.conversion.export import quiet_exporter
from toolkit.doctor.check import Check, Status
from toolkit.ops.bodies import attach_bodies
from toolkit.ops.spec import OPSET, CustomOp, registered_schemas
from toolkit.text import one_line

TOLERANCE = 1e-5
"""Of the largest value: float32 rounds it to 1.2e-7, and an op adds up a few dozen such errors."""

UPDATE = "update together: pip install --upgrade torch onnx onnxscript onnxruntime"
ON_CPU = "run on the CPU until the kernel works"


class Calls(nn.Module):
    """One call of each op, with the attributes of its example."""

    def __init__(self, ops: Sequence[CustomOp]) -> None:
        super().__init__()
        self.calls = [(op, example(op)[len(op.inputs) :]) for op in ops]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors of every op's example, op after op -> one output an op."""
        given = iter(tensors)
        return tuple(op.torch_op(*(next(given) for _ in op.inputs), *attributes) for op, attributes in self.calls)


def check_custom_ops(ops: Sequence[CustomOp]) -> list[Check]:
    """Export every op and run it in ONNX Runtime: one check an op."""
    untested = [
        Check(op.name, Status.NOTE, "not tested: it has no example", "its plugin may give one, as CustomOp(example=…)")
        for op in ops
        if op.example is None
    ]
    return _check_together([op for op in ops if op.example is not None]) + untested


def _check_together(ops: Sequence[CustomOp]) -> list[Check]:
    """All ops in one export, for that takes most of the time; each on its own if that fails."""
    try:
        return [
            compare(op.name, "ONNX Runtime", expected, actual, UPDATE)
            for op, expected, actual in zip(ops, eager(ops), converted(ops), strict=True)
        ]
    # Exporter and runtime fail in many ways, and each is a finding.
    except Exception as error:
        if len(ops) == 1:
            return [Check(ops[0].name, Status.FAILED, one_line(error.__cause__ or error), UPDATE)]
        return [check for op in ops for check in _check_together([op])]


def check_kernels(ops: Sequence[CustomOp]) -> list[Check]:
    """Compile and launch the kernel of every op on the GPU: one check an op. A kernel that cannot run is noted."""
    return [_check_kernel(op) for op in ops if op.example is not None and op.kernel is not None]


def _check_kernel(op: CustomOp) -> Check:
    try:
        on_gpu = [x.cuda() if isinstance(x, Tensor) else x for x in example(op)]
        return compare(op.name, "the kernel", eager([op])[0], op.torch_op(*on_gpu).cpu().numpy(), ON_CPU)
    # Compiler, driver and kernel fail in many ways, and each is a finding.
    except Exception as error:
        return Check(op.name, Status.NOTE, one_line(error), ON_CPU)


def compare(subject: str, what: str, expected: np.ndarray, actual: np.ndarray, remedy: str) -> Check:
    """Whether an output is the one of torch on the CPU."""
    if actual.shape != expected.shape:
        return Check(subject, Status.FAILED, f"{what} gives shape {actual.shape}, torch {expected.shape}", remedy)
    error = float(np.abs(actual - expected).max() / np.abs(expected).max())
    found = f"{what} differs from torch by {error:.1e} of the largest value"
    if not error <= TOLERANCE:
        return Check(subject, Status.FAILED, f"{found}, more than {TOLERANCE:.0e}", remedy)
    return Check(subject, Status.OK, found)


def eager(ops: Sequence[CustomOp]) -> list[np.ndarray]:
    """The output of each op's example in torch."""
    return [output.numpy() for output in Calls(ops)(*example_tensors(ops))]


def converted(ops: Sequence[CustomOp]) -> list[np.ndarray]:
    """The output of each op's example, exported, in ONNX Runtime."""
    import onnxruntime

    with registered_schemas(ops), quiet_exporter():
        program = torch.onnx.export(
            Calls(ops),
            example_tensors(ops),
            dynamo=True,
            opset_version=OPSET,
            custom_translation_table={op.overload: op.translation() for op in ops},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    attach_bodies(model, ops)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    fed = {name: tensor.numpy() for name, tensor in zip(names, example_tensors(ops), strict=True)}
    outputs: list[np.ndarray] = session.run(None, fed)
    return outputs


def example(op: CustomOp) -> tuple[Any, ...]:
    """The arguments of one call: tensors, then attributes."""
    assert op.example is not None
    return op.example()


def example_tensors(ops: Sequence[CustomOp]) -> tuple[Tensor, ...]:
    return tuple(tensor for op in ops for tensor in example(op)[: len(op.inputs)])
