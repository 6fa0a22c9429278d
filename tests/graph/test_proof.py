"""The proof ends, whatever a model does, and real loops are proven."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from tests.graph.rewriting import text_model
from toolkit.bounded.limits import Limits
from toolkit.cli.main import run
from toolkit.errors import InputError
from toolkit.graph.pipeline import rewrite
from toolkit.graph.proof import default_limits

pytestmark = pytest.mark.thorough

LIMITS = Limits(seconds=3, bytes=2**29)


@pytest.fixture(autouse=True)
def one_process() -> None:
    """Each model has a process of its own here, with its limits."""


def looping(turns: int) -> ModelProto:
    """Adds one to zero, that many times."""
    return text_model(
        """m (float[2] x) => (float[2] y) {
            sum = Loop (turns, , zero) <body = b (int64 turn, bool go, float before) => (bool on, float after) {
                on = Identity (go)
                after = Add (before, one)
            }>
            y = Add (x, sum)
        }""",
        turns=np.array(turns),
        zero=np.array(0, np.float32),
        one=np.array(1, np.float32),
    )


def stacking(turns: int) -> ModelProto:
    """Keeps 4 MB of each turn."""
    return text_model(
        """m (float[2] x) => (float[N, A, B] y) {
            y = Loop (turns, on) <body = b (int64 turn, bool go) => (bool still, float[A, B] kept) {
                still = Identity (go)
                number = Cast <to = 1> (turn)
                kept = Expand (number, shape)
            }>
        }""",
        turns=np.array(turns),
        on=np.array(True),
        shape=np.array([1000, 1000]),
    )


def doubling(times: int) -> ModelProto:
    nodes = "".join(f"d{n + 1} = Concat <axis = 0> (d{n}, d{n})\n" for n in range(times))
    return text_model(f"m (float[2, 3] x) => (float y) {{ d0 = Identity (x) {nodes} y = ReduceMax (d{times}) }}")


def wide(size: int) -> ModelProto:
    """Its input alone has that many numbers."""
    return text_model(f"m (float[{size}] x) => (float y) {{ y = ReduceMax <keepdims = 0> (x) }}")


@pytest.mark.parametrize("model", [looping(1000), stacking(3), doubling(8), wide(10**6)])
def test_models_that_end_are_proven(model: ModelProto) -> None:
    assert rewrite(model, [], (), limits=LIMITS).checks[0].startswith("equal")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (looping(2**62), "did not end within 3 s"),
        (stacking(2**62), "needs more than 0.537 GB of memory"),
        (doubling(30), "needs more than 0.537 GB of memory"),
        (wide(2**40), "needs more than 0.537 GB of memory"),
    ],
    ids=["turns without end", "keeps all turns", "doubles", "input of 4 TB"],
)
def test_models_that_do_not_end_are_the_inputs_fault(model: ModelProto, words: str) -> None:
    with pytest.raises(InputError) as error:
        rewrite(model, [], (), limits=LIMITS)
    assert words in str(error.value)
    assert "--check-seconds and --check-memory, or leave it out with --no-check" in str(error.value)


def test_limits_go_by_the_size_of_the_weights() -> None:
    small, large = (
        text_model(f"m (float[{n}] x) => (float[{n}] y) {{ y = Add (x, w) }}", w=np.zeros(n)) for n in (1, 10**6)
    )
    assert default_limits(small).seconds == pytest.approx(12, abs=0.01)
    assert default_limits(small).bytes == pytest.approx(850e6, abs=10_000)
    assert default_limits(large).seconds == pytest.approx(14, abs=0.01)
    assert default_limits(large).bytes == pytest.approx(850e6 + 32e6, abs=10_000)


def test_limits_are_options_of_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "endless.onnx", tmp_path / "out.onnx"
    onnx.save(looping(2**62), source)
    command = ["rewrite", str(source), "-o", str(target), "--check-seconds"]
    assert run([*command, "1"]) == 2
    assert "did not end within 1 s" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["endless.onnx"]
    assert run([*command, "1", "--no-check"]) == 0
    assert target.exists()
