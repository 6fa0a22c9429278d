"""How far a model that rounds otherwise is from what it was: measured, for its users alone know what is too far."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import ModelProto

from toolkit.bounded.limits import is_out_of_memory
from toolkit.errors import CheckFailed
from toolkit.graph.equivalence import Examination, Reference, differences, outputs_of
from toolkit.graph.validity import checker_fault
from toolkit.text import one_line


def measure(reference: Reference, model: ModelProto) -> Examination:
    """The deviation of each output, where ONNX Runtime can run both models; only ONNX's checker can find a fault.

    Raises an exception for want of memory alone.
    """
    if not reference.fault and (fault := checker_fault(model)):
        return Examination(f"ONNX's checker refuses it: {fault}")
    if reference.unknown:
        return Examination("", f"not compared: {reference.unknown}")
    try:
        outputs = outputs_of(model, reference.inputs)
    except Exception as error:  # there are types that ONNX Runtime has no kernels of
        if is_out_of_memory(error):
            raise
        return Examination("", f"not compared: ONNX Runtime cannot run the result: {one_line(error)}")
    deviations = differences(reference.outputs, outputs)
    largest = max(deviations.values(), default=0.0)
    finding = f"measured in ONNX Runtime on {reference.origin}: outputs deviate by up to {largest:.1e}"
    return Examination("", f"{finding} of their largest value", deviations)


def hold_to(tolerance: float, deviations: Mapping[str, float]) -> None:
    """Raise CheckFailed if an output deviates by more than `tolerance`, naming the worst; also if none was measured."""
    if not deviations:
        raise CheckFailed(
            "the result cannot be held to --tolerance, for it was not compared; give inputs that run with "
            "--check-inputs, or leave it out; nothing was written"
        )
    name, largest = max(deviations.items(), key=lambda item: item[1])
    if not largest <= tolerance:
        raise CheckFailed(
            f"output {name!r} deviates by {largest:.1e} of its largest value, --tolerance allows {tolerance:.1e}; "
            "nothing was written"
        )
