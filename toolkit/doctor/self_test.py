"""A conversion in small: every custom op is examined, exported, runs in ONNX Runtime, and is compared with torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.conversion.export import quiet_exporter
from toolkit.doctor.check import Check, Status
from toolkit.doctor.op_trial import PartFault, Trial, called, cause_of
from toolkit.ops.bodies import attach_bodies
from toolkit.ops.calls import Call
from toolkit.ops.cuda import launch_backward
from toolkit.ops.open_axes import fixed_axes
from toolkit.ops.spec import OPSET, CustomOp, registered_schemas
from toolkit.text import one_line

TOLERANCE = 1e-5
"""Of the largest value: float32 rounds it to 1.2e-7, and an op adds up a few dozen such errors."""

UPDATE = "update together: pip install --upgrade torch onnx onnxscript onnxruntime"
ON_CPU = "run on the CPU until the kernel works"


class Calls(nn.Module):
    """The example of each op; its tensors are the inputs, op after op."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        super().__init__()
        self.trials = trials

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors of every op's example -> the outputs of every op."""
        given = iter(tensors)
        outputs: list[Tensor] = []
        for trial in self.trials:
            inputs = [None if x is None else next(given) for x in trial.inputs]
            outputs += called(trial.op, inputs, trial.attributes)
        return tuple(outputs)


def check_custom_ops(ops: Sequence[CustomOp], builtin: Collection[CustomOp] = ()) -> list[Check]:
    """Examine every op, export it and run it in ONNX Runtime: one check an op.

    What is wrong with one of the toolkit's own, `builtin`, is wrong with the installation; with any other, in its file.
    """
    checks: dict[str, Check] = {}
    trials: list[Trial] = []
    for op in ops:
        if op.example is None:
            remedy = "its plugin may give one, as CustomOp(example=…)"
            checks[op.name] = Check(op.name, Status.NOTE, "not tested: it has no example", remedy)
            continue
        try:
            trial = Trial.of(op)
            trial.examine()
            trials.append(trial)
        except PartFault as fault:
            checks[op.name] = failed(op, fault, builtin)
    checks |= {check.subject: check for check in _check_together(trials, builtin)}
    return [checks[op.name] for op in ops]


def _check_together(trials: Sequence[Trial], builtin: Collection[CustomOp]) -> list[Check]:
    """All ops in one export, for that takes most of the time; each on its own if that fails."""
    try:
        outputs = iter(converted(trials))
        return [_compared(trial, [next(outputs) for _ in trial.expected], builtin) for trial in trials]
    # Exporter and runtime fail in many ways, and each is a finding.
    except Exception as error:
        if len(trials) == 1:
            return [failed(trials[0].op, PartFault("body", cause_of(error.__cause__ or error)), builtin)]
        return [check for trial in trials for check in _check_together([trial], builtin)]


def _compared(trial: Trial, outputs: Sequence[np.ndarray], builtin: Collection[CustomOp]) -> Check:
    equal, found = compare("ONNX Runtime", trial, outputs)
    if not equal:
        return failed(trial.op, PartFault("body", found), builtin)
    if trial.op.kernel is not None and trial.op not in builtin:
        fixed = fixed_axes(Call.of(trial.op, *trial.op.signature.call(trial.inputs, trial.attributes)))
        found += f"; embedded in an engine, its plan needs fixed sizes: {', '.join(fixed)}" if fixed else ""
    return Check(trial.op.name, Status.OK, found)


def failed(op: CustomOp, fault: PartFault, builtin: Collection[CustomOp]) -> Check:
    """A fault with its remedy."""
    if op in builtin:
        return Check(op.name, Status.FAILED, fault.cause, UPDATE)
    remedy = f"mend {fault.part} in {source_of(op)}"
    for kernel in (op.kernel, op.backward):
        if kernel is not None and fault.part == kernel.source.name:
            remedy = f"mend {kernel.source}, or plan in {source_of(op)}"
    return Check(op.name, Status.FAILED, f"{fault.part}: {fault.cause}", remedy)


def source_of(op: CustomOp) -> str:
    """The file of the op's torch operator."""
    return str(op.torch_op._init_fn.__code__.co_filename)


def check_kernels(ops: Sequence[CustomOp], builtin: Collection[CustomOp] = ()) -> list[Check]:
    """Compile and launch the kernels of every op on the GPU: one check an op. A kernel that cannot run is noted."""
    return [
        _check_kernels(op, builtin)
        for op in ops
        if op.example is not None and (op.kernel is not None or op.backward is not None)
    ]


def _check_kernels(op: CustomOp, builtin: Collection[CustomOp]) -> Check:
    findings = []
    for kernel, equals in ((op.kernel, kernel_equals), (op.backward, backward_equals)):
        if kernel is None:
            continue
        remedy = ON_CPU if op in builtin else f"mend {kernel.source}, or plan in {source_of(op)}; {ON_CPU}"
        try:
            equal, found = equals(Trial.of(op))
        # Compiler, driver and kernel fail in many ways, and each is a finding.
        except Exception as error:
            return Check(op.name, Status.NOTE, one_line(error), remedy)
        if not equal:
            return Check(op.name, Status.FAILED, found, remedy)
        findings.append(found)
    return Check(op.name, Status.OK, "; ".join(findings))


def kernel_equals(trial: Trial) -> tuple[bool, str]:
    """Whether the kernel gives on a GPU what torch gives on the CPU, and what was found, in words."""
    outputs = called(trial.op, [None if x is None else x.cuda() for x in trial.inputs], trial.attributes)
    return compare("the kernel", trial, [x.cpu().numpy() for x in outputs])


def backward_equals(trial: Trial) -> tuple[bool, str]:
    """The same of the gradients, which the operator's own code gives in FP64 where it can."""
    try:
        incoming, expected = trial.gradients(torch.float64)
    except PartFault:  # the code may state FP32 somewhere
        incoming, expected = trial.gradients()
    of_floats = iter(incoming)
    gradients = [
        next(of_floats).cuda() if port.has_gradient else x.cuda()
        for port, x in zip(trial.op.signature.outputs, trial.expected, strict=True)
    ]
    inputs = [None if x is None else x.cuda() for x in trial.inputs]
    found = launch_backward(trial.op, inputs, trial.attributes, gradients)
    floats = [(port.name, x) for port, x in zip(trial.op.signature.inputs, found, strict=True) if port.has_gradient]
    given = [(name, x, y) for (name, x), y in zip(floats, expected, strict=True) if x is not None and y is not None]
    names, actual, wanted = zip(*given, strict=True)
    return compare_all("the backward kernel", names, [x.numpy() for x in wanted], [x.cpu().numpy() for x in actual])


def compare(what: str, trial: Trial, outputs: Sequence[np.ndarray]) -> tuple[bool, str]:
    """Whether outputs are those of torch on the CPU, and what was found, in words."""
    return compare_all(what, trial.op.outputs, [x.numpy() for x in trial.expected], outputs)


def compare_all(
    what: str, names: Sequence[str], expected: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
) -> tuple[bool, str]:
    """The same of named arrays."""
    worst = 0.0
    for given, wanted, actual in zip(names, expected, outputs, strict=True):
        name = f" for {given!r}" if len(expected) > 1 else ""
        if actual.shape != wanted.shape:
            return False, f"{what} gives shape {actual.shape}{name}, torch {wanted.shape}"
        error = relative_error(wanted, actual)
        worst = max(worst, error)
        if not error <= TOLERANCE:
            found = f"{what} differs from torch{name} by {error:.1e} of the largest value"
            return False, f"{found}, more than {TOLERANCE:.0e}"
    return True, f"{what} differs from torch by {worst:.1e} of the largest value"


def relative_error(expected: np.ndarray, actual: np.ndarray) -> float:
    """The largest difference, in terms of the largest finite value; infinities and NaN equal themselves alone."""
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    differing = ~((expected == actual) | (np.isnan(expected) & np.isnan(actual)))
    if not differing.any():
        return 0.0
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    difference = np.abs(actual[differing] - expected[differing])
    finite = np.isfinite(difference).all() and largest > 0
    return float(difference.max() / largest) if finite else float("inf")


def converted(trials: Sequence[Trial]) -> list[np.ndarray]:
    """The outputs of each op's example, exported, in ONNX Runtime."""
    import onnxruntime

    ops = [trial.op for trial in trials]
    given = tuple(x for trial in trials for x in trial.given)
    with registered_schemas(ops), quiet_exporter():
        program = torch.onnx.export(
            Calls(trials),
            given,
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
    fed = {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)}
    outputs: list[np.ndarray] = session.run(None, fed)
    return outputs
