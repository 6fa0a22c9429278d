"""Models of older opsets are raised to one that the passes know, and compared with what the file held."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import ModelProto

from tests.graph.rewriting import op_types, text_model
from toolkit.cli.main import run
from toolkit.errors import CheckFailed
from toolkit.graph import pipeline
from toolkit.graph.pipeline import rewrite
from toolkit.onnx_nodes import standard_opset

pytestmark = pytest.mark.thorough

SOFTMAX = "m (float[2, 3, 4] x) => (float[2, 3, 4] y) { y = Softmax <axis = 1> (x) }"
"""Over the last two axes together before opset 13, over one axis since."""
BRANCHES = """m (bool c, float[2, 3, 4] x) => (float[2, 3, 4] y) {
    y = If (c) <
        then_branch = t () => (float[2, 3, 4] a) { a = Softmax <axis = 1> (x) },
        else_branch = e () => (float[2, 3, 4] b) { b = Softmax <axis = 2> (x) }
    >
}"""


def file_of(model: ModelProto, folder: Path) -> str:
    onnx.save(model, folder / "model.onnx")
    return str(folder / "model.onnx")


@pytest.mark.parametrize("opset", [11, 12, 15])
def test_the_file_is_raised_and_the_proof_is_of_the_whole_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], opset: int
) -> None:
    assert run(["rewrite", file_of(text_model(SOFTMAX, opset), tmp_path), "-o", str(tmp_path / "out.onnx")]) == 0
    shown = capsys.readouterr().out
    assert f"opset {opset} was raised to 16 by ONNX's converter" in shown
    assert "equal in ONNX Runtime on random inputs" in shown
    written = onnx.load(tmp_path / "out.onnx")
    assert standard_opset(written) == 16
    assert "Softmax" in op_types(written)


def test_a_precision_says_how_far_it_is_raised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of(text_model(SOFTMAX, 12), tmp_path)
    assert run(["rewrite", path, "-o", str(tmp_path / "out.onnx"), "--precision", "bf16"]) == 0
    assert "opset 12 was raised to 22 by ONNX's converter" in capsys.readouterr().out


def test_branches_are_raised_too() -> None:
    result = rewrite(text_model(BRANCHES, 12), (), ())
    assert result.raised == ("opset 12 was raised to 16 by ONNX's converter",)
    assert result.checks[0].startswith("equal in ONNX Runtime on random inputs")


def test_nothing_is_said_of_an_opset_that_passes_know() -> None:
    assert rewrite(text_model(SOFTMAX, 16), (), ()).raised == ()


def test_what_the_converter_cannot_raise_is_refused_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(text_model("m (float[2] x) => (float[2] y) { y = SomebodysPlugin (x) }", 12), tmp_path)
    assert run(["rewrite", path, "-o", str(tmp_path / "out.onnx")]) == 2
    refusal = " ".join(capsys.readouterr().err.split())
    assert "the model has opset 12 and cannot be converted to 16: " in refusal
    assert "SomebodysPlugin" in refusal
    assert "export it with opset 16" in refusal
    assert not (tmp_path / "out.onnx").exists()


def test_a_conversion_that_breaks_the_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "raise_opset", lambda model, opset, ops: text_model(SOFTMAX, opset))
    with pytest.raises(CheckFailed, match=r"^the conversion to opset 16 breaks the model: output 'y' differs by "):
        rewrite(text_model(SOFTMAX, 12), (), ())
