"""`new-pass` writes a pass that works, with tests that pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from tests.graph.rewriting import op_types, text_model
from toolkit.cli.main import run
from toolkit.errors import CheckFailed
from toolkit.graph.template.new_pass import NEW_PASS
from toolkit.graph.template.test_new_pass import test_does_not_fire, test_fires
from toolkit.graph.trial import try_pass

REPOSITORY = Path(__file__).parents[2]

__all__ = ["test_does_not_fire", "test_fires"]
"""Those of the template hold as they are."""


def test_the_pass_is_a_plugin(tmp_path: Path) -> None:
    folder, model = tmp_path / "my_pass", tmp_path / "m.onnx"
    assert run(["new-pass", "my-pass", "-o", str(folder)]) == 0
    assert sorted(file.name for file in folder.iterdir()) == ["__init__.py", "my_pass.py", "test_my_pass.py"]
    onnx.save(text_model("m (float[2] x) => (float[2] y) { a = Exp (x) b = Neg (a) c = Neg (b) y = Abs (c) }"), model)
    line = ["rewrite", str(model), "-o", str(tmp_path / "out.onnx"), "--plugin", str(folder / "my_pass.py")]
    assert run([*line, "--pass", "my-pass"]) == 0
    assert op_types(onnx.load(tmp_path / "out.onnx")) == ["Exp", "Abs"]


@pytest.mark.slow
def test_its_tests_pass(tmp_path: Path) -> None:
    """Outside of the repository."""
    assert run(["new-pass", "my-pass", "-o", str(tmp_path / "my_pass")]) == 0
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "my_pass"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "2 passed" in ended.stdout, ended.stdout + ended.stderr


def test_a_trial_must_prove_something() -> None:
    with pytest.raises(CheckFailed, match="not compared: ONNX Runtime cannot run the model"):
        try_pass("m (float[2] x) => (float[2] y) { a = TRT.Foo (x) y = Relu (a) }", NEW_PASS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_pass", "pass name 'my_pass' is not possible; use lower-case words joined by hyphens, as in my-pass"),
        ("while", "pass name 'while' is not possible"),
        ("fold-constants", "there is a graph pass named fold-constants already; choose another name"),
    ],
)
def test_names_that_are_not_possible(name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new-pass", name]) == 2
    assert message in capsys.readouterr().err
