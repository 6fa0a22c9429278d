"""Graph passes in a row over a model, with proof that the model still computes the same."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from onnx import ModelProto

from toolkit.bounded.limits import Limits, is_out_of_memory
from toolkit.bounded.memory import memory_limit
from toolkit.bounded.process import BoundedProcess
from toolkit.errors import CheckFailed, InputError
from toolkit.graph.conversion import to_graph, to_model
from toolkit.graph.equivalence import Arrays, Examination
from toolkit.graph.graph_pass import GraphPass
from toolkit.graph.opset import raise_opset, raised_lines
from toolkit.graph.order import sort_nodes
from toolkit.graph.proof import default_limits, deviations_of, prove
from toolkit.graph.provenance import PassRun, every_node, record_passes, stamp_nodes
from toolkit.graph.signed_codes import sign_codes
from toolkit.graph.unused import remove_unused
from toolkit.onnx_nodes import standard_opset
from toolkit.ops.bodies import attach_bodies, custom_nodes, detach_bodies
from toolkit.ops.spec import DOMAIN, OLDEST_OPSET, CustomOp
from toolkit.text import one_line

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

Form = Literal["functional", "plugin"]
LIBRARIES = 2**28
"""Bytes, of those that passes may take, that this process holds before."""
Progress = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Rewritten:
    """A rewritten model, what each pass did to it, and what the checks found, a sentence each.

    `deviations` are those of outputs whose change by passes was measured (`GraphPass.measured`), relative to the
    output's largest magnitude. `raised` are sentences, if any, about the conversion of an old model to a newer opset.
    """

    model: ModelProto
    log: tuple[PassRun, ...]
    checks: tuple[str, ...]
    deviations: Mapping[str, float] = field(default_factory=dict)
    raised: tuple[str, ...] = ()


def rewrite(
    model: ModelProto,
    passes: Sequence[GraphPass],
    ops: Sequence[CustomOp],
    *,
    form: Form = "functional",
    opset: int = OLDEST_OPSET,
    check: bool = True,
    limits: Limits | None = None,
    inputs: Arrays | None = None,
    progress: Progress = lambda step: nullcontext(),
) -> Rewritten:
    """Run passes over a model, which itself stays as it is; `ops` are what nodes of domain ``uniad`` may be.

    A model of an older opset than `opset` is converted to it first; it is compared as it was before.

    Passes in a row that have the same tolerance are checked together: by ONNX's checker and, on `inputs` or random
    ones, by ONNX Runtime, where these accept the model as it was. Only if the check fails are they repeated, one more
    each time, to find the one at fault. A pass of infinite tolerance may change inputs and outputs, so what follows it
    is compared with its result; what a measured one changes is told, and is no fault. Passes and each check may take
    `limits`, which by default go by the size of the model.

    Raises CheckFailed, naming the pass, if one fails or breaks the model; InputError for a custom op of no plugin, for
    a model that cannot be converted, and for one that passes or checks cannot deal with within the limits.
    """
    log: list[PassRun] = []
    checks = []
    deviations: dict[str, float] = {}
    original = with_bodies(model, ops)
    raised = raised_lines(original, opset)
    model = raise_opset(original, opset, ops)
    stages = [tuple(stage) for _, stage in groupby(passes, key=lambda each: (each.tolerance, each.measured))] or [()]
    limits = limits or default_limits(model)
    with BoundedProcess(limits) as process:
        for stage in stages:
            with progress("run the passes"):
                rewritten, runs = run_passes(model, stage, ops, limits)
            if check:
                with progress("run the model before and after"):
                    examination = examined(original, rewritten, stage, process, inputs)
                    if examination.fault:
                        raise CheckFailed(blame(original, model, stage, ops, process, inputs) or examination.fault)
                checks.append(examination.finding)
                deviations |= examination.deviations
            log += runs
            original = model = rewritten
    record_passes(model, log)
    if form == "plugin":
        detach_bodies(model)
        sign_codes(model)
    return Rewritten(model, tuple(log), tuple(checks), deviations, raised)


def with_bodies(model: ModelProto, ops: Sequence[CustomOp]) -> ModelProto:
    """The model itself if functions stand behind its custom nodes, else a copy where they do."""
    present = {function.name for function in model.functions if function.domain == DOMAIN}
    if all(node.op_type in present for node in custom_nodes(model.graph.node)):
        return model
    functional = ModelProto()
    functional.CopyFrom(model)
    attach_bodies(functional, ops)
    return functional


def run_passes(
    model: ModelProto, passes: Sequence[GraphPass], ops: Sequence[CustomOp], limits: Limits | None = None
) -> tuple[ModelProto, list[PassRun]]:
    """The functional model after some passes, unchecked.

    Raises CheckFailed, naming it, if a pass fails; InputError if one takes more memory than `limits` allow.
    """
    from onnx_graphsurgeon.logger import G_LOGGER

    runs = []
    limits = limits or default_limits(model)
    with G_LOGGER.suppress(), memory_limit(max(limits.bytes - LIBRARIES, LIBRARIES)):
        with failure_of("onnx-graphsurgeon"):
            graph = to_graph(model, ops)
        for graph_pass in passes:
            with failure_of(f"pass {graph_pass.name!r}"):
                runs.append(run_pass(graph_pass, graph))
                if runs[-1].outcome.changes:  # shapes may be known now that were not
                    model = to_model(graph, model, ops)
                    del graph
                    gc.collect()  # a graph refers to itself, and holds the weights
                    graph = to_graph(model, ops)
        with failure_of("onnx-graphsurgeon"):
            return to_model(graph, model, ops), runs


def run_pass(graph_pass: GraphPass, graph: gs.Graph) -> PassRun:
    """Run one pass over a graph, tidy up after it, and mark the nodes it made."""
    nodes, count = list(every_node(graph)), len(graph.nodes)
    outcome = graph_pass.apply(graph)
    remove_unused(graph)
    sort_nodes(graph)
    stamp_nodes(nodes, graph, graph_pass.name)
    return PassRun(graph_pass.name, outcome, count, len(graph.nodes))


@contextmanager
def failure_of(culprit: str) -> Iterator[None]:
    """Raise CheckFailed, naming the culprit, if the block raises anything but InputError or for want of memory."""
    try:
        yield
    except InputError:
        raise
    # A pass of someone else, and a library on a model of unknown origin, can fail in any way.
    except Exception as error:
        if is_out_of_memory(error):
            raise InputError(
                f"{culprit} needs more memory than a model of this size should; allow it more with --check-memory, "
                "if you trust the model; nothing was written"
            ) from error
        raise CheckFailed(f"{culprit} fails: {one_line(error)}; nothing was written") from error


def tolerance_of(stage: Sequence[GraphPass]) -> float:
    """That of its passes, which they have in common; without passes the smallest that rounding allows."""
    return stage[0].tolerance if stage else 1e-6


def examined(
    before: ModelProto, after: ModelProto, stage: Sequence[GraphPass], process: BoundedProcess, inputs: Arrays | None
) -> Examination:
    """The comparison that passes of a stage ask for."""
    if stage and stage[0].measured:
        return deviations_of(before, after, process, inputs)
    return prove(before, after, tolerance_of(stage), process, inputs)


def blame(
    original: ModelProto,
    model: ModelProto,
    stage: Sequence[GraphPass],
    ops: Sequence[CustomOp],
    process: BoundedProcess,
    inputs: Arrays | None,
) -> str:
    """Which pass breaks the model, and how; or that it was the conversion of the original to the model's opset."""
    if model is not original and (fault := prove(original, model, tolerance_of(stage), process, inputs).fault):
        return f"the conversion to opset {standard_opset(model)} breaks the model: {fault}; nothing was written"
    for count in range(len(stage) + 1):
        rewritten, _ = run_passes(model, stage[:count], ops, process.limits)
        fault = examined(original, rewritten, stage, process, inputs).fault
        if fault:
            culprit = f"pass {stage[count - 1].name!r}" if count else "onnx-graphsurgeon"
            return f"{culprit} breaks the model: {fault}; nothing was written"
    return ""
