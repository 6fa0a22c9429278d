"""`rewrite --check-inputs`: the proof on data of the user's own, and what of it does not fit the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.graph.rewriting import text_model
from toolkit.cli.main import run
from toolkit.storage.npz import write_npz

pytestmark = pytest.mark.thorough

MODEL = "m (float[2, N] x, int64[N] s) => (float[2, N] y) { t = Cast <to = 1> (s) a = Add (x, t) y = Identity (a) }"
FLOATS, WHOLE = np.ones((2, 4), np.float32), np.arange(4)
PICKY = "m (float[3] x, int64[1] s) => (float[N] y) { a = Reshape (x, s) y = Identity (a) }"
"""Of all random numbers only the one that nothing draws suits it: a size of three."""
BREAKER = """
from toolkit.graph.graph_pass import Change, GraphPass, Outcome
from toolkit.hookspecs import hookimpl

def apply(graph):
    graph.nodes[0].op = "Relu"
    return Outcome((Change(graph.nodes[0].name, "cut off below zero"),))

@hookimpl
def uniad_graph_passes():
    return (GraphPass("cut-off", "is right for what random inputs seldom are", apply),)
"""


def rewritten(folder: Path, text: str, arrays: Mapping[str, np.ndarray], *options: str) -> int:
    """The exit status of `rewrite` with inputs given."""
    onnx.save(text_model(text), folder / "m.onnx")
    write_npz(folder / "x.npz", arrays.items())
    inputs = ["--check-inputs", str(folder / "x.npz")]
    return run(["rewrite", str(folder / "m.onnx"), "-o", str(folder / "out.onnx"), *inputs, *options])


def test_the_proof_is_on_the_inputs_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On random ones ONNX Runtime cannot run this model."""
    assert rewritten(tmp_path, PICKY, {"x": FLOATS[0, :3], "s": np.array([3])}) == 0
    assert "equal in ONNX Runtime on the inputs given: 1 outputs within 0.0e+00" in capsys.readouterr().out


@pytest.mark.parametrize(("sign", "status"), [(1, 0), (-1, 1)])
def test_a_difference_on_them_counts(
    sign: int, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "breaker.py").write_text(BREAKER, encoding="utf-8")
    options = ["--pass", "cut-off", "--plugin", str(tmp_path / "breaker.py")]
    text = "m (float[2, 4] x) => (float[2, 4] y) { a = Identity (x) y = Exp (a) }"
    assert rewritten(tmp_path, text, {"x": sign * FLOATS}, *options) == status
    assert ("pass 'cut-off' breaks the model" in capsys.readouterr().err) == bool(status)


AMISS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "missing": ({"x": FLOATS}, "input 's' is missing; write each input under its name with numpy.savez"),
    "unknown": ({"x": FLOATS, "s": WHOLE, "z": WHOLE}, "the model has no input 'z'; it has x, s"),
    "type": ({"x": FLOATS.astype(float), "s": WHOLE}, "input 'x' is float32 of 2xN, found float64 of 2x4"),
    "fixed size": ({"x": FLOATS[:1], "s": WHOLE}, "input 'x' is float32 of 2xN, found float32 of 1x4"),
    "open size": ({"x": FLOATS, "s": WHOLE[:3]}, "input 's' is int64 of 4, found int64 of 3"),
    "number of dimensions": ({"x": FLOATS[0], "s": WHOLE}, "input 'x' is float32 of 2xN, found float32 of 4"),
    "scalar": ({"x": FLOATS, "s": np.array(1)}, "input 's' is int64 of 4, found int64 of no dimensions"),
    "all at once": ({"y": FLOATS, "s": FLOATS}, "input 'x' is missing; input 's' is int64 of N, found float32 of 2x4"),
}


@pytest.mark.parametrize("case", AMISS)
def test_inputs_that_do_not_fit_are_named(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, and nothing is written."""
    arrays, message = AMISS[case]
    assert rewritten(tmp_path, MODEL, arrays) == 2
    said = capsys.readouterr().err
    assert "x.npz does not fit the model: " in said
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out.onnx").exists()


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(text_model(MODEL), tmp_path / "m.onnx")
    (tmp_path / "x.npz").write_text("dear diary")
    line = ["rewrite", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "out.onnx")]
    assert run([*line, "--check-inputs", str(tmp_path / "x.npz")]) == 2
    assert "x.npz is not a readable npz: ValueError: it is no zip archive" in capsys.readouterr().err


def test_more_than_fits_memory_is_refused_unread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.graph.given_inputs.MOST_BYTES", 100)
    assert rewritten(tmp_path, MODEL, {"x": FLOATS, "s": WHOLE}) == 2
    assert "hold more than 100 bytes; write fewer or smaller arrays" in capsys.readouterr().err


def test_without_a_proof_they_are_of_no_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rewritten(tmp_path, MODEL, {"x": FLOATS, "s": WHOLE}, "--no-check") == 2
    assert "--check-inputs is of no use with --no-check" in capsys.readouterr().err
