"""Folding makes no model much larger, and ends, whatever its constants lead to."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import ArrayLike
from onnx import ModelProto

from tests.graph.rewriting import op_types, text_model
from toolkit.bounded.limits import Limits
from toolkit.errors import InputError
from toolkit.graph.cleanup.constants import FOLD_CONSTANTS
from toolkit.graph.graph_pass import Outcome
from toolkit.graph.pipeline import rewrite

pytestmark = pytest.mark.thorough

MEBIBYTE = np.zeros((512, 512), np.float32)


@pytest.fixture(autouse=True)
def one_process() -> None:
    """Each model has a process of its own here, with its limits."""


def fold(nodes: str, **weights: ArrayLike) -> tuple[ModelProto, Outcome]:
    """The model after folding, and what the pass says; `nodes` make a scalar a."""
    text = f"m (float[2] x) => (float[2] y) {{ {nodes} y = Add (x, a) }}"
    result = rewrite(text_model(text, **weights), [FOLD_CONSTANTS], (), check=False)
    [run] = result.log
    return result.model, run.outcome


def reasons(outcome: Outcome) -> set[str]:
    return {near_miss.reason for near_miss in outcome.near_misses}


def test_constants_that_double_stay_nodes() -> None:
    """The same tensor, given twice, is not twice as much to make a result from."""
    doubled = "".join(f"d{n + 1} = Concat <axis = 0> (d{n}, d{n})\n" for n in range(6))
    model, outcome = fold(f"{doubled} a = ReduceMax <keepdims = 0> (d6)", d0=np.zeros((1, 100_000), np.float32))
    assert op_types(model)[0] == "Concat"
    assert model.ByteSize() < 3 * 2**20
    assert "Concat makes 1600000 bytes of 800000; the limit is 1048576" in reasons(outcome)


def doubling(times: int) -> ModelProto:
    doubled = "".join(f"d{n + 1} = Concat <axis = 0> (d{n}, d{n})\n" for n in range(times))
    return text_model(f"m (float[100000] d0) => (float y) {{ {doubled} y = ReduceMax (d{times}) }}")


def test_shapes_that_double_are_the_inputs_fault() -> None:
    """ONNX's inference takes a vector for a shape, and remembers each entry."""
    limits = Limits(9, 2**28)
    assert len(rewrite(doubling(2), [FOLD_CONSTANTS], (), check=False, limits=limits).model.graph.node) == 3
    with pytest.raises(InputError, match="onnx-graphsurgeon needs more memory than a model of this size should"):
        rewrite(doubling(14), [FOLD_CONSTANTS], (), check=False, limits=limits)


def test_many_results_of_one_constant_stay_nodes_in_the_end() -> None:
    """Each would be small enough, but not all of them."""
    sums = "".join(f"s{n} = Add (w, k{n}) m{n} = Gather (s{n}, i)\n" for n in range(70))
    both = " ".join(f"t{n + 1} = Add (t{n}, m{n})" for n in range(70))
    numbers = {f"k{n}": np.array(n, np.float32) for n in range(70)}
    nodes = f"i = TRT.Unknown (x) t0 = Neg (x) {sums} {both} a = Relu (t70)"
    model, outcome = fold(nodes, w=MEBIBYTE, **numbers)
    assert op_types(model).count("Add") == 70 - 64 + 70 + 1
    assert model.ByteSize() < 66 * 2**20
    assert reasons(outcome) == {"Add makes more constants than a model of this size may be given"}


def test_results_that_take_the_place_of_constants_are_folded_without_end() -> None:
    """As the steps are from a weight as it is stored to one as it is used."""
    steps = " ".join(f"w{n + 1} = Neg (w{n})" for n in range(100))
    model, _ = fold(f"{steps} a = ReduceMax <keepdims = 0> (w100)", w0=MEBIBYTE)
    assert op_types(model) == ["Add"]


def test_a_node_that_runs_without_end_stays_one() -> None:
    """Or asks for all memory. Others that come later are left alone too, for they are not run."""
    image, kernel = np.ones((1, 1, 4095, 1023), np.float32), np.ones((1, 1, 3584, 512), np.float32)
    started = time.monotonic()
    model, outcome = fold(
        "c = Conv (image, kernel) n = Neg (k) s = Add (c, n) a = ReduceMax <keepdims = 0> (s)",
        image=image,
        kernel=kernel,
        k=1.0,
    )
    assert time.monotonic() - started < 30
    assert op_types(model) == ["Conv", "Neg", "Add", "ReduceMax", "Add"]
    assert any("Conv did not end within" in reason or "Conv needs more than" in reason for reason in reasons(outcome))
    assert "other nodes took all the time that there is for a model of this size" in reasons(outcome)


def test_text_is_not_made() -> None:
    """Its size is not known before."""
    text = "m (string[2] x) => (string[2] y) { s = Cast <to = 8> (w) y = StringConcat (x, s) }"
    result = rewrite(text_model(text, 20, w=np.ones(2, np.float32)), [FOLD_CONSTANTS], (), check=False)
    assert op_types(result.model) == ["Cast", "StringConcat"]
    assert reasons(result.log[0].outcome) == {"Cast makes a result of unknown size"}


@pytest.mark.parametrize("size", [2**12, 2**40])
def test_sparse_constants_are_not_made_dense_beyond_the_limits(size: int) -> None:
    """However many zeros they stand for."""
    model = text_model(f"m (float[{size}] x) => (float[{size}] y) {{ n = Neg (w) y = Add (x, n) }}")
    values, indices = np.ones(1, np.float32), np.zeros(1, np.int64)
    model.graph.sparse_initializer.append(
        onnx.helper.make_sparse_tensor(
            onnx.numpy_helper.from_array(values, "w"), onnx.numpy_helper.from_array(indices, "indices"), [size]
        )
    )
    try:
        result = rewrite(model, [FOLD_CONSTANTS], (), check=False, limits=Limits(9, 2**28))
    except InputError as error:
        assert "needs more memory" in str(error)  # noqa: PT017
    else:
        assert result.model.ByteSize() < 2**20


def test_the_command_ends_within_the_memory_allowed(tmp_path: Path) -> None:
    """400 kB that stand for gigabytes once each node is computed: in a process of its own, as users run it.

    Memory that a longer-lived process has freed would be at the command's disposal beyond its limit.
    """
    names = ["w", *(f"d{index}" for index in range(14))]
    doubled = " ".join(f"{b} = Concat <axis = 0> ({a}, {a})" for a, b in pairwise(names))
    text = f"m (float[2] x) => (float[2] y) {{ {doubled} r = ReduceMax <keepdims = 0> ({names[-1]}) y = Add (x, r) }}"
    onnx.save(text_model(text, w=np.ones(100_000, np.float32)), tmp_path / "bad.onnx")
    command = [
        sys.executable,
        "-c",
        "from toolkit.cli.main import main; main()",
        "rewrite",
        "bad.onnx",
        "-o",
        "out.onnx",
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, "--no-check", "--check-memory", "0.5"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2, done.stderr
    assert "needs more memory than a model of this size should" in done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 20
    assert not (tmp_path / "out.onnx").exists()
