"""`rewrite --extract`: nodes cut out of a model, which runs by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.graph.rewriting import op_types, text_model
from toolkit.cli.main import run
from toolkit.errors import InputError
from toolkit.graph.equivalence import outputs_of
from toolkit.graph.extraction import extraction
from toolkit.graph.pipeline import rewrite

pytestmark = pytest.mark.thorough

CHAIN = """m (float[2] x) => (float[2] y, float[2] z) {
    a = Relu (x) b = Mul (a, w) c = Exp (b) d = Add (c, b) y = Neg (d) z = Abs (a)
}"""
WEIGHT = np.array([2, 3], np.float32)
BRANCHES = """m (float[2] x, bool when) => (float[2] y) {
    a = Relu (x) b = Exp (x)
    c = If (when) <
        then_branch = t () => (float[2] u) { v = Neg (a) u = Abs (v) },
        else_branch = e () => (float[2] u) { u = Add (a, b) }
    >
    y = Abs (c)
}"""

CUT = {
    "by name": (["Exp_2"], ["Exp"], ["b"], ["c"]),
    "what both need is given once": (["Exp_2", "Add_3"], ["Exp", "Add"], ["b"], ["d"]),
    "what others need is a result": (["Mul_1", "Exp_2"], ["Mul", "Exp"], ["a"], ["b", "c"]),
    "by type, apart from each other": (["Relu", "Neg"], ["Relu", "Neg"], ["x", "d"], ["a", "y"]),
    "by pattern": (["*"], ["Relu", "Mul", "Exp", "Add", "Neg", "Abs"], ["x"], ["y", "z"]),
}


@pytest.mark.parametrize("case", CUT)
def test_inputs_and_outputs_are_where_it_was_cut(case: str) -> None:
    patterns, operators, inputs, outputs = CUT[case]
    cut = rewrite(text_model(CHAIN, w=WEIGHT), [extraction(patterns)], ()).model
    assert op_types(cut) == operators
    assert [value.name for value in cut.graph.input] == inputs
    assert [value.name for value in cut.graph.output] == outputs


def test_constants_come_along() -> None:
    cut = rewrite(text_model(CHAIN, w=WEIGHT), [extraction(["Mul_1"])], ()).model
    assert outputs_of(cut, {"a": np.ones(2, np.float32)})["b"].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("patterns", "inputs"), [(["If"], ["when", "a", "b"]), (["If", "Relu"], ["x", "when", "b"]), (["Exp"], ["x"])]
)
def test_what_branches_use_is_needed(patterns: Sequence[str], inputs: Sequence[str]) -> None:
    cut = rewrite(text_model(BRANCHES), [extraction(patterns)], ()).model
    assert sorted(value.name for value in cut.graph.input) == sorted(inputs)
    given = {"a": WEIGHT, "b": WEIGHT, "x": WEIGHT, "when": np.array(True)}
    assert outputs_of(cut, {name: given[name] for name in inputs})


def test_an_input_of_unknown_type_is_refused() -> None:
    model = text_model("m (float[2] x) => (float[2] y) { a = TRT.Foo (x) y = Relu (a) }")
    with pytest.raises(InputError, match="what makes 'a' must be extracted too"):
        rewrite(model, [extraction(["Relu"])], ())
    assert op_types(rewrite(model, [extraction(["Foo", "Relu"])], ()).model) == ["Foo", "Relu"]


def test_the_command_runs_no_other_pass_unless_it_is_named(tmp_path: Path) -> None:
    model, cut = tmp_path / "m.onnx", tmp_path / "cut.onnx"
    onnx.save(text_model("m (float[2] x) => (float[2] y) { a = Identity (x) b = Exp (a) y = Neg (b) }"), model)
    line = ["rewrite", str(model), "-o", str(cut), "--extract", "Identity_0", "--extract", "Exp_1"]
    assert run(line) == 0
    assert op_types(onnx.load(cut)) == ["Identity", "Exp"]
    assert run([*line, "--pass", "remove-identities"]) == 0
    assert op_types(onnx.load(cut)) == ["Exp"]


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(text_model(CHAIN, w=WEIGHT), tmp_path / "m.onnx")
    assert run(["rewrite", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "cut.onnx"), "--extract", "Exp_9"]) == 2
    said = capsys.readouterr().err
    assert "'Exp_9' is to be extracted, but no node, op type or submodule matches it" in said
    assert said.count("\n") == 1
