"""Where the pass fires, and where it does not. `try_pass` compares the model before and after in ONNX Runtime."""

from __future__ import annotations

from toolkit.graph.trial import op_types, try_pass

from .new_pass import NEW_PASS


def test_fires() -> None:
    model, outcome = try_pass(
        "m (float[2] x) => (float[2] y) { a = Exp (x) b = Neg (a) c = Neg (b) y = Abs (c) }", NEW_PASS
    )
    assert op_types(model) == ["Exp", "Abs"]
    assert [change.what for change in outcome.changes] == ["undoes 'Neg_1'"]


def test_does_not_fire() -> None:
    """There must be something to make the output."""
    model, outcome = try_pass("m (float[2] x) => (float[2] y) { a = Neg (x) y = Neg (a) }", NEW_PASS)
    assert op_types(model) == ["Neg", "Neg"]
    assert [miss.node for miss in outcome.near_misses] == ["Neg_1"]
