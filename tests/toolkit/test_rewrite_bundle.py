"""A bundle stands for its model in `rewrite`."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest

from tests.graph.rewriting import op_types, text_model
from toolkit.bundle import Bundle
from toolkit.cli.main import run

pytestmark = pytest.mark.thorough


@pytest.fixture
def written(bundle: Bundle) -> Bundle:
    """A bundle with a model."""
    onnx.save(text_model("m (float[2] x) => (float[2] y) { a = Identity (x) y = Exp (a) }"), bundle.path / "model.onnx")
    written = replace(bundle, files={"functional": "model.onnx"})
    written.write()
    return written


def test_the_model_of_a_bundle_is_rewritten(written: Bundle, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("beside") / "out.onnx"
    assert run(["rewrite", str(written.path), "-o", str(out)]) == 0
    assert op_types(onnx.load(out)) == ["Exp"]


def test_a_bundle_keeps_its_model(written: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rewrite", str(written.path), "-o", str(written.onnx)]) == 2
    assert "an input of this command; choose another output" in capsys.readouterr().err
