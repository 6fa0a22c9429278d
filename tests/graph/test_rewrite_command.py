"""`uniad-toolkit rewrite` as users meet it, and the example of its documentation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.graph.rewriting import op_types, text_model
from toolkit.cli.main import run
from toolkit.graph.graph_pass import Change, GraphPass, Outcome
from toolkit.hookspecs import hookimpl
from toolkit.plugin.manager import PluginManager

pytestmark = pytest.mark.thorough

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "docs/examples/square_by_multiplication.py"
PAGE = (REPOSITORY / "docs/graph-passes.md").read_text(encoding="utf-8")

SQUARES = "m (float[3] x) => (float[3] y) { a = Pow (x, two) b = Pow (a, three) c = Identity (b) y = Exp (c) }"
BREAKER = """
from toolkit.graph.graph_pass import Change, GraphPass, Outcome
from toolkit.hookspecs import hookimpl

def negate(graph):
    graph.nodes[-1].op = "Neg"
    return Outcome((Change(graph.nodes[-1].name, "negated"),))

@hookimpl
def uniad_graph_passes():
    return (GraphPass("negate", "breaks models", negate),)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(text_model(SQUARES, two=np.float32(2), three=np.float32(3)), path)
    return path


def test_the_default_passes_run(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rewrite", str(model), "-o", str(tmp_path / "out.onnx")]) == 0
    assert op_types(onnx.load(tmp_path / "out.onnx")) == ["Pow", "Pow", "Exp"]
    shown = capsys.readouterr().out
    assert "remove-identities" in shown
    assert "equal in ONNX Runtime on random inputs" in shown
    assert "out.onnx" in shown


def test_the_example_fires_and_says_what_it_leaves_alone(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["rewrite", str(model), "-o", str(tmp_path / "out.onnx"), "--plugin", str(EXAMPLE), "--explain"]
    assert run([*arguments, "--pass", "square-by-multiplication"]) == 0
    assert op_types(onnx.load(tmp_path / "out.onnx")) == ["Mul", "Pow", "Identity", "Exp"]
    shown = capsys.readouterr().out
    assert "changed Pow_0: squares by multiplication" in shown
    assert "left alone Pow_1: its exponent is 3.0" in shown


def test_what_was_left_alone_comes_before_what_was_changed_which_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Above all folds, of which a model can have thousands."""
    text = (
        "m (float[3] x) => (float[3] y) { a = Exp (w) b = Exp (a) c = Exp (b) d = Exp (c) e = Pow (d, x) y = Neg (e) }"
    )
    onnx.save(text_model(text, w=np.zeros(3, np.float32)), tmp_path / "m.onnx")
    line = ["rewrite", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "o.onnx"), "--plugin", str(EXAMPLE), "--explain"]
    assert run([*line, "--pass", "fold-constants", "--pass", "square-by-multiplication", "--no-check"]) == 0
    shown = capsys.readouterr().out
    assert "changed 4 nodes, such as Exp_0: Exp folded" in shown
    assert shown.index("left alone Pow_4: its exponent is not constant") < shown.index("changed 4 nodes")


def test_one_pass_is_explained_alone_and_to_a_file(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["rewrite", str(model), "-o", str(tmp_path / "out.onnx"), "--plugin", str(EXAMPLE), "--no-check"]
    explaining = ["--explain-pass", "square-by-multiplication", "--explain-json", str(tmp_path / "out.json")]
    assert run([*line, *explaining]) == 0
    shown = capsys.readouterr().out
    assert "changed Pow_0: squares by multiplication" in shown
    assert "Identity removed" not in shown
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == {
        "passes": [
            {
                "pass": "square-by-multiplication",
                "nodes_before": 3,
                "nodes_after": 3,
                "changes": [{"node": "Pow_0", "what": "squares by multiplication"}],
                "near_misses": [{"node": "Pow_1", "reason": "its exponent is 3.0"}],
            }
        ]
    }


def test_a_remedy_is_shown_and_written_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """m (float[1, 4, 3, 3] map, float[1, 5, 2, 2] grid, float[1, 1, 5, 2] logits) => (float[1, 4, 5] y) {
        samples = GridSample <mode = "nearest"> (map, grid) weights = Softmax (logits) product = Mul (samples, weights)
        last = Constant <value_ints = [-1]> () y = ReduceSum <keepdims = 0> (product, last)
    }"""
    onnx.save(text_model(text), tmp_path / "m.onnx")
    line = ["rewrite", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "o.onnx"), "--no-check"]
    explaining = ["--explain-pass", "fuse-deformable-attention", "--explain-json", str(tmp_path / "o.json")]
    assert run([*line, *explaining]) == 0
    [near_miss] = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))["passes"][0]["near_misses"]
    assert near_miss["remedy"].startswith("sample with mode='bilinear'")
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{near_miss['reason']}; {near_miss['remedy']}" in shown


def test_the_page_holds_the_example() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") in PAGE


def test_the_page_describes_every_pass() -> None:
    for graph_pass in PluginManager.load().graph_passes():
        assert f"`{graph_pass.name}`" in PAGE


def test_passes_are_listed_with_their_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rewrite", "--list", "--plugin", str(EXAMPLE)]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "square-by-multiplication" in shown
    assert "to-vendor-spellings no" in shown


def test_passes_run_in_the_order_in_which_they_are_named(model: Path, tmp_path: Path) -> None:
    names = ["--pass", "remove-identities", "--pass", "square-by-multiplication", "--skip", "remove-identities"]
    out = tmp_path / "out.onnx"
    assert run(["rewrite", str(model), "-o", str(out), "--plugin", str(EXAMPLE), *names]) == 0
    assert op_types(onnx.load(out)) == ["Mul", "Pow", "Identity", "Exp"]


@pytest.mark.parametrize(("form", "functions"), [("functional", 1), ("plugin", 0)])
def test_forms(tmp_path: Path, form: str, functions: int) -> None:
    path, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    onnx.save(text_model("m (float[3, 3] x) => (float[3, 3] y) { y = uniad.Inverse (x) }"), path)
    assert run(["rewrite", str(path), "-o", str(out), "--form", form]) == 0
    assert len(onnx.load(out).functions) == functions


@pytest.mark.slow
def test_a_pass_that_breaks_the_model_writes_nothing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    breaker = tmp_path / "breaker.py"
    breaker.write_text(BREAKER, encoding="utf-8")
    out = tmp_path / "out.onnx"
    arguments = ["rewrite", str(model), "-o", str(out), "--plugin", str(breaker)]
    assert run(arguments) == 1
    assert "pass 'negate' breaks the model: output 'y' differs by" in capsys.readouterr().err
    assert not out.exists()
    assert run([*arguments, "--skip", "negate"]) == 0
    assert run([*arguments, "--no-check"]) == 0
    assert op_types(onnx.load(out))[-1] == "Neg"


REFUSED = {
    "unknown pass": (
        ["--pass", "fold-constant"],
        "there is no graph pass 'fold-constant'; did you mean 'fold-constants'?",
    ),
    "unlike any pass": (["--skip", "zzz"], "known: remove-dead-nodes"),
    "explains what does not run": (
        ["--explain-pass", "to-vendor-spellings"],
        "--explain-pass names 'to-vendor-spellings', which does not run here; name one of remove-dead-nodes, ",
    ),
    "two outputs of one name": (["--explain-json", "{output}"], "is named for two outputs; choose another for one"),
    "unknown form": (["--form", "plugins"], "'plugins' is not one of"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_options_are_refused(
    model: Path, tmp_path: Path, options: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "out.onnx")
    assert run(["rewrite", str(model), "-o", output, *(option.format(output=output) for option in options)]) == 2
    assert message in capsys.readouterr().err


def test_the_model_itself_is_not_overwritten(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rewrite", str(model), "-o", str(model)]) == 2
    assert "an input of this command; choose another output" in capsys.readouterr().err


def test_the_output_must_be_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rewrite", str(model)]) == 2
    assert "give the model to rewrite and, with -o, the file to write" in capsys.readouterr().err


def test_unreadable_models_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    assert run(["rewrite", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "out.onnx")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_passes_of_one_name_clash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(EXAMPLE, tmp_path / "copy.py")
    assert run(["rewrite", "--list", "--plugin", str(EXAMPLE), "--plugin", str(tmp_path / "copy.py")]) == 2
    assert "both offer a graph pass named 'square-by-multiplication'" in capsys.readouterr().err


def test_passes_come_through_the_hook() -> None:
    class Plugin:
        @hookimpl
        def uniad_graph_passes(self) -> Sequence[GraphPass]:
            return (GraphPass("mine", "for a test", lambda graph: Outcome((Change("", ""),))),)

    manager = PluginManager.load(builtin=())
    manager.register(Plugin(), "mine", "1")
    assert [graph_pass.name for graph_pass in manager.graph_passes()] == ["mine"]
