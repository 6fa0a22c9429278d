"""Functions that stand for more nodes than a model can have are refused before they are written out."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import onnx
import pytest
from onnx import FunctionProto, ModelProto

from tests.graph.rewriting import op_types, text_model
from toolkit.errors import InputError
from toolkit.graph.functions import inline_functions
from toolkit.graph.model_file import read_model


def nested(levels: int, body: str) -> ModelProto:
    """A call of the last of some functions; `body` makes y of x, with CALL for the function before."""
    model = text_model(f"m (float[2] x) => (float[2] y) {{ y = TRT.F{levels} (x) }}")
    model.functions.append(function("F0 (x) => (y) { y = Relu (x) }"))
    for level in range(levels):
        model.functions.append(function(f"F{level + 1} (x) => (y) {{ {body.replace('CALL', f'TRT.F{level}')} }}"))
    return model


def function(text: str) -> FunctionProto:
    return onnx.parser.parse_function(f'<domain: "TRT", opset_import: ["" : 18, "TRT" : 1]> {text}')


TWICE = "a = CALL (x) y = CALL (a)"
IN_BRANCHES = """c = Constant <value_int = 1> () d = Cast <to = 9> (c)
    y = If (d) <then_branch = t () => (a) { a = CALL (x) }, else_branch = e () => (b) { b = CALL (x) }>"""
ONCE = "a = CALL (x) y = Neg (a)"

REFUSED: dict[str, tuple[ModelProto, str]] = {
    "twice each": (nested(25, TWICE), "its 52 nodes, those of local functions included, stand for 33554432 once"),
    "twice each, deeper": (nested(90, TWICE), "stand for about 2^90 once the functions are written out"),
    "in branches": (
        nested(25, IN_BRANCHES),
        "its 127 nodes, those of local functions included, stand for 134217725 once",
    ),
    "deep": (nested(150, ONCE), "its local functions call each other 151 deep, the most is 100"),
}


@pytest.fixture
def file(tmp_path: Path) -> Callable[[ModelProto], Path]:
    """Writes a model, and returns its path."""

    def write(model: ModelProto) -> Path:
        onnx.save(model, tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return write


@pytest.mark.parametrize(("model", "words"), REFUSED.values(), ids=REFUSED)
def test_functions_without_end_are_refused(model: ModelProto, words: str, file: Callable[[ModelProto], Path]) -> None:
    path, started = file(model), time.process_time()
    with pytest.raises(InputError) as error:
        read_model(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)
    assert str(error.value).endswith("; export it again without functions")
    assert time.process_time() - started < 2


def test_functions_in_a_circle_are_refused(file: Callable[[ModelProto], Path]) -> None:
    """Through the branch of a condition too."""
    model = nested(2, IN_BRANCHES)
    model.functions[0].CopyFrom(function("F0 (x) => (y) { y = TRT.F2 (x) }"))
    with pytest.raises(InputError, match="call each other in a circle"):
        read_model(file(model))


@pytest.mark.parametrize(("levels", "body", "count"), [(10, TWICE, 1024), (60, ONCE, 61), (0, "", 1)])
def test_functions_that_end_are_read(levels: int, body: str, count: int, file: Callable[[ModelProto], Path]) -> None:
    model = read_model(file(nested(levels, body)))
    assert len(op_types(inline_functions(model))) == count


def test_a_large_model_may_use_its_functions_often(file: Callable[[ModelProto], Path]) -> None:
    """As exporters write operators: for each of 5,000 calls 99 nodes are too many, 40 are not."""
    model = nested(0, "")
    model.functions.append(function("Op (x) => (y) {" + " ".join(f"t{n + 1} = Relu (t{n})" for n in range(99)) + "}"))
    body = model.functions[-1]
    body.node[0].input[0], body.node[-1].output[0] = "x", "y"
    del model.graph.node[:]
    names = ["x", *(f"a{n}" for n in range(4999)), "y"]
    model.graph.node.extend(
        onnx.helper.make_node("Op", [source], [target], domain="TRT") for source, target in pairwise(names)
    )
    with pytest.raises(InputError, match="stand for 495000 once the functions are written out, the most is 255000"):
        read_model(file(model))
    del body.node[40:]
    body.node[-1].output[0] = "y"
    assert len(read_model(file(model)).graph.node) == 5000
