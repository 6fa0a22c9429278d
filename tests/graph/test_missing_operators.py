"""Operators that TensorRT lacks are written by others, where their size is known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.graph.rewriting import op_types, rewritten, text_model
from toolkit.graph.replacements.operators import REPLACE_MISSING_OPERATORS

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("shape", ["2, 2", "5, 3, 3", "N, M, 2, 2"])
def test_determinants(shape: str) -> None:
    rank = shape.count(",") - 1
    out = ", ".join("ABC"[:rank])
    text = f"m (float[{shape}] x) => (float[{out}] y) {{ d = Det (x) y = Neg (d) }}".replace("[]", "")
    model, _ = rewritten(text, REPLACE_MISSING_OPERATORS)
    assert "Det" not in op_types(model)


@pytest.mark.parametrize("shape", ["4, 4", "N, M, K"])
def test_other_determinants_stay(shape: str) -> None:
    text = f"m (float[{shape}] x) => (float y) {{ d = Det (x) y = ReduceSum <keepdims = 0> (d) }}"
    model, outcome = rewritten(text, REPLACE_MISSING_OPERATORS, compare=False)
    assert "Det" in op_types(model)
    assert "is not covered" in outcome.near_misses[0].reason


@pytest.mark.parametrize("aligned", [0, 1])
def test_affine_grids(aligned: int) -> None:
    text = f"m (float[2, 2, 3] x) => (float[2, 4, 5, 2] y) {{ y = AffineGrid <align_corners = {aligned}> (x, size) }}"
    model, _ = rewritten(text_model(text, 20, size=np.array([2, 3, 4, 5])), REPLACE_MISSING_OPERATORS)
    assert op_types(model) == ["Transpose", "MatMul", "Reshape"]


def test_affine_grids_of_open_size_stay() -> None:
    text = "m (float[2, 2, 3] x, int64[4] size) => (float[A, B, C, 2] y) { y = AffineGrid (x, size) }"
    model, outcome = rewritten(text_model(text, 20), REPLACE_MISSING_OPERATORS, compare=False)
    assert op_types(model) == ["AffineGrid"]
    assert len(outcome.near_misses) == 1
