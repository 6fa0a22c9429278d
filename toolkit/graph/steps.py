"""Steps that lead from one model to another which must compute the same, and the comparison of the two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnx import ModelProto

from toolkit.bounded.limits import CallFailed, LimitExceeded
from toolkit.bounded.process import BoundedProcess
from toolkit.errors import CheckFailed
from toolkit.graph.equivalence import Examination
from toolkit.graph.proof import compare, default_limits, pack

TOLERANCE = 1e-4
"""Of an output, relative to its largest value: newer operators may be computed by other kernels."""
NOTHING_TO_COMPARE = "nothing to compare: nodes, functions and weights are those of the model"


@dataclass(frozen=True)
class Step:
    """An edit of a model, which itself stays as it is; `name` is what messages call it."""

    name: str
    apply: Callable[[ModelProto], ModelProto]


def take_steps(model: ModelProto, steps: Sequence[Step]) -> tuple[ModelProto, str]:
    """The model after all steps, and what came of comparing it with the model before, in a sentence.

    Both are run by ONNX Runtime on random inputs, unless they are the same. What cannot be run within the limits for a
    model of this size is not compared, and the sentence says why. Raises CheckFailed, naming the first step after which
    the model does not compute what it did, and the first output that differs.
    """
    after = model
    for step in steps:
        after = step.apply(after)
    if is_same(model, after):
        return after, NOTHING_TO_COMPARE
    with BoundedProcess(default_limits(model)) as process:
        try:
            examination = examined(model, after, process)
            if examination.fault:
                raise CheckFailed(blame(model, steps, process) or examination.fault)
        except LimitExceeded as reason:
            return after, f"not compared: running the model before and after {reason}"
        except CallFailed as reason:
            return after, f"not compared: running the model before and after fails: {reason}"
    return after, examination.finding


def blame(model: ModelProto, steps: Sequence[Step], process: BoundedProcess) -> str:
    """Which step breaks the model, and how."""
    after = model
    for step in steps:
        after = step.apply(after)
        if fault := examined(model, after, process).fault:
            return f"{step.name} breaks the model: {fault}; nothing was written"
    return ""


def examined(before: ModelProto, after: ModelProto, process: BoundedProcess) -> Examination:
    """The comparison of two models. Raises LimitExceeded or CallFailed if it cannot be carried out."""
    return process.call(compare, pack(before), pack(after), TOLERANCE)


def is_same(one: ModelProto, other: ModelProto) -> bool:
    """Whether two models are made of the same; the order of weights and what is said about the model do not count."""
    return one is other or parts(one) == parts(other)


def parts(model: ModelProto) -> tuple[object, ...]:
    """All that decides what a model computes."""
    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    lists = (model.opset_import, model.functions, graph.node, graph.input, graph.output, graph.sparse_initializer)
    return (weights, *map(list, lists))
