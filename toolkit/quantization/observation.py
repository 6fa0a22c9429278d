"""The ranges that tensors of a model of unknown origin have on given or random inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from toolkit.bounded.limits import CallFailed, LimitExceeded
from toolkit.bounded.process import BoundedProcess
from toolkit.errors import InputError
from toolkit.graph.equivalence import Arrays, first_run, outputs_of
from toolkit.graph.proof import Messages, pack, unpack
from toolkit.graph.weights import split_weights
from toolkit.quantization.ranges import TensorRange

ENDS = {"ReduceMin": "least", "ReduceMax": "largest"}
BROKEN = "broken"
"""Part of the name of an output that is 1 if a tensor holds a NaN: ONNX Runtime's ends may pass one over."""


def observe(
    model: ModelProto, tensors: Sequence[str], process: BoundedProcess, inputs: Arrays | None = None
) -> dict[str, TensorRange]:
    """The least and the largest value of FP32 tensors of a model, by their names, in ONNX Runtime.

    Nothing is clipped. Without `inputs` they are those of the first random ones that the model runs on. A tensor whose
    values are not all finite is left out. Raises InputError if the model cannot be run within the limits of `process`.
    """
    try:
        return process.call(observe_packed, pack(with_ends(model, tensors)), tensors, inputs)
    except LimitExceeded as reason:
        raise InputError(
            f"the run that is to show the ranges of tensors {reason}; allow it more with --check-seconds and "
            "--check-memory; nothing was written"
        ) from reason
    except CallFailed as reason:
        raise InputError(
            f"the model cannot be calibrated, for it does not run: {reason}; give it inputs with --check-inputs; "
            "nothing was written"
        ) from reason


def with_ends(model: ModelProto, tensors: Sequence[str]) -> ModelProto:
    """A copy of the model that gives nothing but the ends of some tensors, and whether there is a NaN in them."""
    light, weights = split_weights(model)
    del light.graph.output[:]
    for name in tensors:
        for op in ENDS:
            light.graph.node.append(onnx.helper.make_node(op, [name], [end(op, name)], keepdims=0))
            light.graph.output.append(onnx.helper.make_tensor_value_info(end(op, name), TensorProto.FLOAT, []))
        found, number, broken = (f"{name}/{part}" for part in ("nan", "number", BROKEN))
        light.graph.node.extend(
            [
                onnx.helper.make_node("IsNaN", [name], [found]),
                onnx.helper.make_node("Cast", [found], [number], to=TensorProto.FLOAT),
                onnx.helper.make_node("ReduceMax", [number], [broken], keepdims=0),
            ]
        )
        light.graph.output.append(onnx.helper.make_tensor_value_info(broken, TensorProto.FLOAT, []))
    light.graph.initializer.extend(weights.values())
    return light


def observe_packed(messages: Messages, tensors: Sequence[str], inputs: Arrays | None) -> dict[str, TensorRange]:
    """What `observe` does, in that process, with the model of `with_ends`."""
    model = unpack(messages)
    ends = first_run(model, optimized=True)[1] if inputs is None else outputs_of(model, inputs)
    found = {}
    for name in tensors:
        low, high = (float(np.asarray(ends[end(op, name)])) for op in ENDS)
        if math.isfinite(low) and math.isfinite(high) and not ends[f"{name}/{BROKEN}"]:
            found[name] = TensorRange(low, high, max(abs(low), abs(high)))
    return found


def end(op: str, tensor: str) -> str:
    """The name of an end of a tensor's range."""
    return f"{tensor}/{ENDS[op]}"
