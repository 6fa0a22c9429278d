"""The default passes keep what ONNX's own test models compute, on the inputs that come with them.

A case that ONNX Runtime runs as it is must run after the passes and give what the suite expects; where ONNX Runtime
itself departs from that (it draws other random numbers, and has a few operators of its own mind) it must give what it
gave. A case that it cannot run, for it lacks the operator, the version or the type, must load after the passes if it
did before, with outputs of the types and shapes that it had. ONNX's checker must accept every result. None is left out,
but two thirds take their turn in `make test-full`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto
from onnx.backend.test.runner import Runner

from tests.graph.onnx_suite import SuiteCase, own_inputs, suite_cases
from toolkit.errors import CheckFailed, InputError
from toolkit.graph.equivalence import (
    Reference,
    arrays_in,
    examine_unrun,
    is_random,
    loading_fault,
    session_of,
)
from toolkit.graph.model_file import OLDEST_OPSET as OLDEST_READ
from toolkit.graph.model_file import read_model
from toolkit.graph.opset import raise_opset
from toolkit.graph.output_types import output_types
from toolkit.graph.pipeline import run_passes
from toolkit.graph.selection import select_passes
from toolkit.graph.validity import checker_fault
from toolkit.onnx_nodes import all_nodes, standard_opset
from toolkit.ops.spec import OLDEST_OPSET
from toolkit.plugin.manager import PluginManager

pytestmark = pytest.mark.slow
PLUGINS = PluginManager.load()
PASSES, OPS = select_passes(PLUGINS.graph_passes()), PLUGINS.custom_ops()
SHARES = 24
IN_EVERY_RUN = 3
"""One of so many shares is no `full` test."""
CASES = 2000
"""The fewest that the suite has; the package of ONNX 1.23 has 2,033."""

cases = cache(lambda: list(suite_cases()))


@pytest.fixture(autouse=True)
def one_process() -> None:
    """Each model has a process of its own here, for some of them do not keep its limits."""


@pytest.mark.parametrize(
    "share", [pytest.param(i, marks=[pytest.mark.full] if i % IN_EVERY_RUN else []) for i in range(SHARES)]
)
def test_every_model_keeps_its_meaning(share: int) -> None:
    faults = {case.name: fault for case in cases()[share::SHARES] if (fault := fault_of(case))}
    assert not faults


def test_every_model_is_taken_for_sound(tmp_path: Path) -> None:
    """None is refused when it is read, but for its opset."""
    refusals = {}
    for case in cases():
        onnx.save(case.model, tmp_path / "model.onnx")
        try:
            read_model(tmp_path / "model.onnx")
        except InputError as error:
            refusals[case.name] = str(error)
    assert not {name: refusal for name, refusal in refusals.items() if "opset" not in refusal}
    assert len(cases()) - len(refusals) > 800


def test_models_of_older_opsets_keep_their_meaning_when_they_are_raised() -> None:
    older = [case for case in cases() if standard_opset(case.model) in range(OLDEST_READ, OLDEST_OPSET)]
    assert len(older) > 400
    assert not {case.name: fault for case in older if (fault := raising_fault(case))}


def test_most_models_are_judged_by_what_they_compute() -> None:
    assert len(cases()) > CASES
    assert sum(run(case, case.model) is not None for case in cases()[::SHARES]) > 0.8 * CASES / SHARES


def fault_of(case: SuiteCase) -> str:
    """What the passes spoil; empty if nothing."""
    try:
        model, _ = run_passes(case.model, PASSES, OPS)
    except (CheckFailed, InputError) as error:
        return str(error)
    if fault := checker_fault(model):
        return fault
    before = run(case, case.model)
    if before is None:
        reference = Reference("", {}, {}, "", not loading_fault(case.model), output_types(case.model))
        return examine_unrun(reference, model).fault
    after = run(case, model)
    if after is None:
        return "it does not run any more"
    if any(is_random(node) for node in all_nodes(case.model.graph.node)):
        return ""
    expected = case.outputs if not departure(case, case.outputs, before) else before
    return departure(case, expected, after)


def raising_fault(case: SuiteCase) -> str:
    """What the conversion to the oldest opset that passes know spoils; empty if nothing."""
    before, after = run(case, case.model), run(case, raise_opset(case.model, OLDEST_OPSET, ()))
    if before is None:
        return ""
    return departure(case, before, after) if after is not None else "it does not run any more"


def run(case: SuiteCase, model: ModelProto) -> list[Any] | None:
    """The outputs of a model for the inputs of a case; None if ONNX Runtime cannot run it."""
    inputs = {value.name: given for value, given in zip(own_inputs(case.model), case.inputs, strict=True)}
    try:
        outputs: list[Any] = session_of(model).run(None, inputs)
    except Exception:  # of ONNX Runtime, which has no common base for its errors
        return None
    return outputs


def departure(case: SuiteCase, expected: list[Any], outputs: list[Any]) -> str:
    """Where outputs depart from what is expected by more than the suite allows; empty if nowhere."""
    try:
        Runner.assert_similar_outputs(entries(expected), entries(outputs), case.rtol, case.atol)
    except AssertionError as error:
        return " ".join(str(error).split())
    return ""


def entries(values: list[Any]) -> list[np.ndarray]:
    """The arrays that values consist of, those of sequences one by one."""
    return [array for value in values for _, array in arrays_in("", value)]
