"""Quantization as a step of `rewrite`: any model, with the ranges that its tensors have on a few inputs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
from onnx import ModelProto, TensorProto

from toolkit.bounded.limits import Limits
from toolkit.bounded.process import BoundedProcess
from toolkit.errors import InputError
from toolkit.graph.equivalence import Arrays
from toolkit.graph.graph_pass import GraphPass
from toolkit.graph.pipeline import Form, Progress, Rewritten, rewrite
from toolkit.graph.proof import default_limits
from toolkit.ops.spec import OLDEST_OPSET, CustomOp
from toolkit.quantization.candidates import OPSET, find_candidates, tensors_to_calibrate
from toolkit.quantization.insert import quantization_pass, require_unquantized
from toolkit.quantization.observation import observe
from toolkit.quantization.scheme import Scheme

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FLOAT = TensorProto.FLOAT
OTHER_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def rewrite_quantized(
    model: ModelProto,
    before: Sequence[GraphPass],
    scheme: Scheme,
    after: Sequence[GraphPass],
    ops: Sequence[CustomOp],
    *,
    form: Form = "functional",
    opset: int = OLDEST_OPSET,
    check: bool = True,
    limits: Limits | None = None,
    inputs: Arrays | None = None,
    progress: Progress = lambda step: nullcontext(),
) -> Rewritten:
    """Run passes over a model, quantize it, and run those that come `after`; arguments are those of `rewrite`.

    Ranges are those that tensors have on `inputs`, or on random ones; a sentence among the checks says so. Raises what
    `rewrite` does, and InputError for a model that is quantized already, that cannot be run, or no layer of which can
    be quantized.
    """
    require_unquantized(model)
    require_values(inputs or {})
    limits = limits or default_limits(model)
    first = rewrite(
        model, before, ops, opset=max(opset, OPSET), check=check, limits=limits, inputs=inputs, progress=progress
    )
    tensors = tensors_to_calibrate(find_candidates(first.model, ops))
    with progress("find the ranges of tensors"), BoundedProcess(limits) as process:
        ranges = observe(first.model, tensors, process, inputs) if tensors else {}
    passes = [quantization_pass(ranges, scheme), *after]
    result = rewrite(first.model, passes, ops, form=form, check=check, limits=limits, inputs=inputs, progress=progress)
    layers, kept = result.log[0].outcome.changes, result.log[0].outcome.near_misses
    if not layers:
        reason = f", such as {kept[0].node!r}: {kept[0].reason}" if kept else without_form(first.model)
        raise InputError(f"no layer of the model can be quantized{reason}; nothing was written")
    origin = (
        "the inputs given" if inputs else "random inputs, which say little of real ones: give these, --check-inputs"
    )
    share = f"{scheme.mode.value.upper()} in {len(layers)} of {len(layers) + len(kept)} layers, by ranges on {origin}"
    return replace(
        result, log=(*first.log, *result.log), checks=(*first.checks, share, *result.checks), raised=first.raised
    )


def require_values(inputs: Arrays) -> None:
    """Raise InputError for arrays that show no range: without a value, or with one that is not finite."""
    for name, array in inputs.items():
        if not array.size:
            raise InputError(f"input {name!r} of --check-inputs has no values, of which ranges could be found")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(
                f"input {name!r} of --check-inputs holds NaN or infinity; ranges are found on finite values"
            )


def without_form(model: ModelProto) -> str:
    """Why a model has no layer that could be quantized."""
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type in LAYERS]
    if not layers:
        return f": it has no {', '.join(LAYERS[:-1])} or {LAYERS[-1]}"
    other = [node for node in layers if any(types.get(name, FLOAT) in OTHER_FLOATS for name in node.input)]
    if len(other) == len(layers):
        return ": its layers are not of FP32; give the FP32 model, and --precision fp16 for what is not quantized"
    return (
        f", such as the {layers[0].op_type} {layers[0].name!r}: there are forms for a Conv, and for an unscaled Gemm "
        "or MatMul of an input with a constant weight behind it, of two dimensions"
    )
