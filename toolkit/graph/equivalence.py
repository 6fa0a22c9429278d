"""Whether a rewritten model is valid and computes what it computed before."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, TypeProto

from toolkit.bounded.limits import is_out_of_memory
from toolkit.graph.edits import RANDOM_OPS
from toolkit.graph.output_types import lost_type, output_types
from toolkit.graph.random_inputs import candidate_inputs
from toolkit.graph.validity import checker_fault
from toolkit.graph.weights import with_weights_as_inputs
from toolkit.onnx_nodes import all_nodes
from toolkit.onnxruntime_options import session_options, unsound_optimizers
from toolkit.text import one_line

if TYPE_CHECKING:
    import onnxruntime

Arrays = Mapping[str, np.ndarray]
SECONDS = 4.0
"""From which on no further sizes of inputs are tried on a model that does not run."""

NOISES = 10
"""So many times what other roundings of the inputs change may be changed by other roundings inside."""
FLOAT = TensorProto.FLOAT
PRECISIONS: Mapping[int, float] = {FLOAT: 2.0**-23, TensorProto.FLOAT16: 2.0**-10, TensorProto.BFLOAT16: 2.0**-7}
"""From 1 to the next number of each type."""


@dataclass(frozen=True)
class Reference:
    """What a model must go on being: `fault` says why ONNX's checker refuses it anyway.

    It computes `outputs` from `inputs`, which are `origin`. Where ONNX Runtime cannot tell, `unknown` says why; then
    `loads` says whether it can load the model at least, and `types` what is known of the outputs. Where it is not
    `optimized`, ONNX Runtime computes every node as it stands.
    """

    fault: str
    inputs: Arrays
    outputs: Arrays
    unknown: str = ""
    loads: bool = False
    types: Mapping[str, TypeProto] = field(default_factory=dict)
    origin: str = "random inputs"
    rounding: float = 0.0
    """What two roundings to the model's narrowest float may change, of an output's largest value."""
    noise: Callable[[], Mapping[str, float]] = dict
    """What becomes of each output when inputs are rounded otherwise, as `difference` measures it; costs a run."""
    optimized: bool = True


@dataclass(frozen=True)
class Examination:
    """What came out of a comparison: `fault` is empty if the model may stand; `finding` is a sentence for the user.

    `differs` if the fault is that an output has other values. `deviations` are the outputs' own, as `difference` has
    them, where they were measured.
    """

    fault: str
    finding: str = ""
    deviations: Mapping[str, float] = field(default_factory=dict)
    differs: bool = False


def reference_of(model: ModelProto, inputs: Arrays | None = None, *, optimized: bool = True) -> Reference:
    """Run a model on inputs; if none are given on random ones, larger ones if it must be.

    Raises an exception for want of memory alone.
    """
    fault = checker_fault(model)
    random_op = next((node.op_type for node in all_nodes(model.graph.node) if is_random(node)), None)
    if random_op is None:
        try:
            origin = "random inputs" if inputs is None else "the inputs given"
            if inputs is None:
                inputs, outputs = first_run(model, optimized)
            else:
                outputs = outputs_of(model, inputs, optimized=optimized)
            noise = partial(noise_of, model, inputs, outputs, optimized)
            return Reference(
                fault, inputs, outputs, origin=origin, rounding=rounding(model), noise=noise, optimized=optimized
            )
        except Exception as error:  # a model of unknown origin can fail in any way
            if is_out_of_memory(error):
                raise
            unknown = f"ONNX Runtime cannot run the model: {one_line(error)}"
    else:
        unknown = f"it draws random numbers ({random_op})"
    return Reference(fault, {}, {}, unknown, not loading_fault(model), output_types(model))


def first_run(model: ModelProto, optimized: bool) -> tuple[Arrays, Arrays]:
    """The first random inputs that a model runs on, and its outputs. Raises what happens on the smallest if on none."""
    light, weights = with_weights_as_inputs(model)
    session = session_of(light, optimized=optimized)
    started, first_error = time.monotonic(), None
    for inputs in candidate_inputs(model):
        try:
            return inputs, run_session(session, weights, inputs)
        except Exception as error:  # of ONNX Runtime, which has no common base for its errors
            first_error = first_error or error
            if is_out_of_memory(error) or time.monotonic() - started > SECONDS:
                break
    assert first_error is not None
    raise first_error


def is_random(node: NodeProto) -> bool:
    """Whether a node draws random numbers, which dropout does in training alone."""
    return node.op_type in RANDOM_OPS and (node.op_type != "Dropout" or len(node.input) > 2)


def examine(reference: Reference, model: ModelProto, tolerance: float) -> Examination:
    """Compare a rewritten model with what it was before. Raises an exception for want of memory alone."""
    if not reference.fault and (fault := checker_fault(model)):
        return Examination(f"ONNX's checker refuses it: {fault}")
    if math.isinf(tolerance):
        return Examination("", "not compared: what the passes change cannot be, by their own account")
    if reference.unknown:
        return examine_unrun(reference, model)
    try:
        outputs = outputs_of(model, reference.inputs, optimized=reference.optimized)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return Examination(f"ONNX Runtime cannot run it any more: {one_line(error)}")
    changes = differences(reference.outputs, outputs)
    floats = max(tolerance, reference.rounding)
    limits = {name: floats if is_float(reference.outputs.get(name)) else tolerance for name in changes}
    beyond = [name for name, change in changes.items() if not change <= limits[name]]
    noise = reference.noise() if beyond else {}
    for name in beyond:
        change, limit = changes[name], max(limits[name], NOISES * noise.get(name, 0.0))
        if not change <= limit:
            fault = f"output {name!r} differs by {change:.1e} of its largest value, {limit:.0e} is allowed"
            return Examination(fault, differs=True)
    within = [change for name, change in changes.items() if name not in beyond]
    share = f"{len(within)} outputs within {max(within, default=0.0):.1e} of their largest value"
    finding = f"equal in ONNX Runtime on {reference.origin}: {share}"
    if beyond:
        finding += f"; {len(beyond)} as near as the model is to itself when inputs are rounded otherwise"
        finding += f", such as {beyond[0]!r}"
    if empty := [name for name, array in outputs.items() if is_nowhere_finite(array)]:
        finding += f"; of no account are {len(empty)} that hold no finite number, such as {empty[0]!r}"
    return Examination("", finding)


def noise_of(model: ModelProto, inputs: Arrays, outputs: Arrays, optimized: bool) -> Mapping[str, float]:
    """How far each output moves when every float of the inputs goes to the next number, up or down by chance.

    Some outputs hang on the last digits: where scores are ranked, two can trade places. Outputs that change their size
    or are lost, and those of a model that does not run again, are left out. Raises an exception for want of memory.
    """
    random = np.random.default_rng(1)
    try:
        neighbours = {name: to_neighbours(array, random) for name, array in inputs.items()}
        moved = outputs_of(model, neighbours, optimized=optimized)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return {}
    changes = {name: difference(array, moved.get(name)) for name, array in outputs.items()}
    return {name: change for name, change in changes.items() if math.isfinite(change)}


def to_neighbours(array: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """An array in which each float has become the next one, up or down; other types stay."""
    if not np.issubdtype(array.dtype, np.floating):
        return array
    ends = np.where(random.integers(0, 2, array.shape), np.inf, -np.inf).astype(array.dtype)
    return np.asarray(np.nextafter(array, ends))


def examine_unrun(reference: Reference, model: ModelProto) -> Examination:
    """Compare a rewritten model with one that could not be run: it must load if that did, with outputs as known."""
    if reference.loads and (fault := loading_fault(model)):
        return Examination(f"ONNX Runtime cannot load it any more: {fault}")
    if fault := lost_type(reference.types, output_types(model)):
        return Examination(fault)
    kept = "it still loads, and" if reference.loads else "but"
    return Examination("", f"not compared: {reference.unknown}; {kept} its outputs have the shapes that they had")


def is_nowhere_finite(array: np.ndarray) -> bool:
    """Whether an output holds floats, and none that is finite."""
    return bool(np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).any())


def outputs_of(model: ModelProto, inputs: Arrays, *, optimized: bool = True) -> dict[str, np.ndarray]:
    """What a model computes in ONNX Runtime on the CPU; of a sequence ``y`` the entries, as ``y[0]``, ``y[1]`` …

    Whatever prevents it raises some Exception.
    """
    light, weights = with_weights_as_inputs(model)
    return run_session(session_of(light, optimized=optimized), weights, inputs)


def run_session(
    session: onnxruntime.InferenceSession, weights: Mapping[str, TensorProto], inputs: Arrays
) -> dict[str, np.ndarray]:
    """What `outputs_of` returns, of a loaded model whose large weights are inputs."""
    fed = {**inputs, **{name: onnx.numpy_helper.to_array(weight) for name, weight in weights.items()}}
    expected = {value.name for value in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {name: array for name, array in fed.items() if name in expected})
    return {name: array for whole, value in zip(names, values, strict=True) for name, array in arrays_in(whole, value)}


def session_of(model: ModelProto, *, optimized: bool = True) -> onnxruntime.InferenceSession:
    """A model loaded by ONNX Runtime. Whatever prevents it raises some Exception."""
    import onnxruntime

    options = session_options(optimized=optimized, lasting=False)
    return onnxruntime.InferenceSession(
        model.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=unsound_optimizers(model),
    )


def loading_fault(model: ModelProto) -> str:
    """Why ONNX Runtime cannot load a model, in one line; empty if it can. Raises an exception for want of memory."""
    light, _ = with_weights_as_inputs(model)
    try:
        session_of(light)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return one_line(error)
    return ""


def arrays_in(name: str, value: object) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays that an output consists of: an optional one may have none."""
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from arrays_in(f"{name}[{index}]", entry)
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from arrays_in(f"{name}[{key!r}]", entry)
    elif value is not None:
        yield name, np.asarray(value)


def rounding(model: ModelProto) -> float:
    """What two roundings to the narrowest float of a model may change, of 16 bits at least.

    A fused node leaves out some roundings that were between its parts, whatever the type of the outputs. Types are told
    by inputs, weights and casts; those of fewer bits are of quantized models, which no pass computes with.
    """
    told = {weight.data_type for weight in model.graph.initializer}
    told |= {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    for node in all_nodes(model.graph.node):
        told |= {a.i for a in node.attribute if node.op_type == "Cast" and a.name == "to"}
        told |= {a.t.data_type for a in node.attribute if a.HasField("t")}
    return 2 * max((precision for kind, precision in PRECISIONS.items() if kind in told), default=PRECISIONS[FLOAT])


def is_float(array: np.ndarray | None) -> bool:
    """Whether there is an array, of floats."""
    return array is not None and np.issubdtype(array.dtype, np.floating)


def differences(before: Arrays, after: Arrays) -> dict[str, float]:
    """The `difference` of each output of either."""
    names = [*before, *(name for name in after if name not in before)]
    return {name: difference(before.get(name), after.get(name)) for name in names}


def difference(before: np.ndarray | None, after: np.ndarray | None) -> float:
    """For floats relative to the largest finite magnitude before, for other types the share of entries that differ.

    Infinite if either array is missing, or `after` has another shape or type or is finite in other places.
    """
    if before is None or after is None or before.shape != after.shape or before.dtype != after.dtype:
        return math.inf
    if not np.issubdtype(before.dtype, np.floating):
        return float(np.mean(before != after)) if before.size else 0.0
    finite = np.isfinite(before)
    if not np.array_equal(before[~finite], after[~finite], equal_nan=True) or not np.isfinite(after[finite]).all():
        return math.inf
    change = np.abs(after[finite].astype(np.float64) - before[finite]).max(initial=0.0)
    largest = float(np.abs(before[finite]).max(initial=0.0))
    return float(change / largest) if largest else float(change)
