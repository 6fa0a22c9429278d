"""The proof that a rewritten model still computes the same, in a process that cannot take all time or memory."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import onnx
from onnx import ModelProto, TensorProto

from toolkit.bounded.limits import CallFailed, LimitExceeded, Limits
from toolkit.bounded.process import BoundedProcess
from toolkit.errors import CheckFailed, InputError
from toolkit.graph.deviation import measure
from toolkit.graph.equivalence import Arrays, Examination, Reference, examine, reference_of
from toolkit.graph.validity import checker_fault
from toolkit.graph.weights import split_weights

SECONDS, SECONDS_PER_MB = 12.0, 0.25
"""Of a proof: UniAD-tiny has 358 MB of weights, runs three times, and takes 28 s on two cores that others use too."""
BYTES, BYTES_PER_BYTE = 850_000_000, 4
"""Of its process: UniAD-tiny takes 1.8 GB, of which its weights, before and after, are 0.7; SegFormer-B0 on an image of
1024x1024 takes 0.8 GB with 15 MB of weights, which is more than of other detectors at 1280x1280."""
WITHOUT_OPTIMIZATIONS = "without ONNX Runtime's optimizations, which round the two models differently"

Messages = list[bytes | pickle.PickleBuffer]
"""Buffers, which arrive in another process as bytes."""


def default_limits(model: ModelProto) -> Limits:
    """What passes over a model of this size, and their proof, may take."""
    size = weight_bytes(model)
    return Limits(SECONDS + SECONDS_PER_MB * size / 1e6, BYTES + BYTES_PER_BYTE * size)


def weight_bytes(model: ModelProto) -> int:
    """Size of the model's message, all its weights included; protobuf itself cannot tell beyond 2 GB."""
    light, weights = split_weights(model)
    return int(light.ByteSize()) + sum(int(weight.ByteSize()) for weight in weights.values())


def prove(
    before: ModelProto,
    after: ModelProto,
    tolerance: float,
    process: BoundedProcess,
    inputs: Arrays | None = None,
) -> Examination:
    """Compare a rewritten model with what it was before, in a process with limits; see `reference_of` and `examine`.

    Raises InputError if that takes more than it may, and CheckFailed if it cannot be carried out.
    """
    try:
        return process.call(compare, pack(before), pack(after), tolerance, inputs)
    except LimitExceeded as reason:
        raise InputError(
            f"the proof that the rewritten model computes the same {reason}; allow it more with --check-seconds and "
            "--check-memory, or leave it out with --no-check; nothing was written"
        ) from reason
    except CallFailed as reason:
        raise CheckFailed(
            f"the proof that the rewritten model computes the same fails: {reason}; nothing was written"
        ) from reason


def compare(before: Messages, after: Messages, tolerance: float, inputs: Arrays | None = None) -> Examination:
    """What `prove` does, in that process.

    ONNX Runtime may fuse nodes of the one model and not of the other, and round otherwise: much, of an output that is
    next to nothing. So what differs has to differ too where every node is computed as it stands.
    """
    original = unpack(before)
    comparable = not math.isinf(tolerance)
    reference = reference_of(original, inputs) if comparable else Reference(checker_fault(original), {}, {})
    rewritten = unpack(after)
    examination = examine(reference, rewritten, tolerance)
    if not examination.differs:
        return examination
    plain_reference = reference_of(original, reference.inputs, optimized=False)
    plain = examine(replace(plain_reference, origin=reference.origin), rewritten, tolerance)
    if plain_reference.unknown or plain.fault:
        return examination
    return replace(plain, finding=f"{plain.finding}, {WITHOUT_OPTIMIZATIONS}")


def deviations_of(
    before: ModelProto, after: ModelProto, process: BoundedProcess, inputs: Arrays | None = None
) -> Examination:
    """Measure how far a model departs from what it was before, in a process with limits; see `measure`.

    Where that takes more than it may, or cannot be carried out, the finding says so.
    """
    try:
        return process.call(measure_packed, pack(before), pack(after), inputs)
    except LimitExceeded as reason:
        return Examination("", f"not compared: running the model before and after {reason}")
    except CallFailed as reason:
        return Examination("", f"not compared: running the model before and after fails: {reason}")


def measure_packed(before: Messages, after: Messages, inputs: Arrays | None) -> Examination:
    """What `deviations_of` does, in that process."""
    return measure(reference_of(unpack(before), inputs), unpack(after))


def pack(model: ModelProto) -> Messages:
    """A model in messages, each of which may have the 2 GB that protobuf allows."""
    light, weights = split_weights(model)
    messages = [light.SerializeToString(), *(weight.SerializeToString() for weight in weights.values())]
    return [pickle.PickleBuffer(message) for message in messages]


def unpack(messages: Messages) -> ModelProto:
    """The model of such messages, which are forgotten one by one: two copies would be much."""
    model = onnx.load_from_string(bytes(messages.pop(0)))
    while messages:
        model.graph.initializer.append(TensorProto.FromString(bytes(messages.pop())))
    return model
