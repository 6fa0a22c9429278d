"""Indexing by a mask, as both exporters write it, comes out with fixed shapes and the same values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.graph.rewriting import exported, op_types, text_model
from toolkit.graph.graph_pass import NearMiss
from toolkit.graph.pipeline import Rewritten, rewrite
from toolkit.graph.plugin import uniad_graph_passes
from toolkit.graph.selection import select_passes

pytestmark = pytest.mark.converts


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def put(x: Tensor, mask: Tensor, values: Any) -> Tensor:
    x = x.clone()
    x[mask] = values
    return x


MASKED = {
    "a number": lambda x, y, mask: put(x, mask, 0.5),
    "rows": lambda x, y, mask: put(x, mask[:, 0], 0.5),
    "elements of another tensor": lambda x, y, mask: put(x, mask, y[mask]),
    "elements changed one by one": lambda x, y, mask: put(x, mask, x[mask].exp() * 2 + 1),
    "elements of two tensors": lambda x, y, mask: put(x, mask, x[mask] / y[mask]),
    "sum": lambda x, y, mask: x[mask].sum(),
    "mean of rows": lambda x, y, mask: x[mask[:, 0]].mean(0),
    "greatest of rows": lambda x, y, mask: x[mask[:, 0]].amax(0),
    "mean of all": lambda x, y, mask: x[mask[:, 0]].mean(),
    "linear layer on rows": lambda x, y, mask: (x[mask[:, 0]] @ torch.ones(4, 4)).sum(0),
    "number": lambda x, y, mask: x.sum() + torch.nonzero(mask).shape[0],
}
UNPROVEN = {
    "elements that do not lie at the mask": (
        lambda x, y, mask: x.masked_scatter(mask, y),
        "is not made of selected rows",
    ),
    "elements at another mask": (lambda x, y, mask: put(x, mask, y[~mask]), "selected by another mask"),
    "a sum over each row": (lambda x, y, mask: x[mask[:, 0]].sum(1), "it is not over the selected rows"),
    "softmax over the selected": (lambda x, y, mask: x[mask].softmax(0).sum(), "mixes the rows"),
}


def cleaned(function: Callable[..., Tensor], *, dynamo: bool, opset: int = 18) -> Rewritten:
    """An exported function after the default passes."""
    random = torch.Generator().manual_seed(0)
    x, y = (torch.rand(5, 4, generator=random) for _ in range(2))
    mask = torch.arange(20).view(5, 4) % 2 == 0
    model = exported(Function(function), (x, y, mask), dynamo=dynamo, opset=opset)
    return rewrite(model, select_passes(uniad_graph_passes()), [])


@pytest.mark.parametrize(("dynamo", "opset"), [(False, 16), (False, 18), (True, 18)])
@pytest.mark.parametrize("function", MASKED.values(), ids=MASKED)
def test_masks_need_no_positions(function: Callable[..., Tensor], dynamo: bool, opset: int) -> None:
    result = cleaned(function, dynamo=dynamo, opset=opset)
    assert not {"NonZero", "GatherND", "ScatterND"} & set(op_types(result.model))
    ort_misreads = result.checks[0].startswith(
        "not compared: ONNX Runtime cannot run"
    )  # what the legacy exporter wrote
    assert result.checks[0].startswith("equal") or (ort_misreads and not dynamo)


@pytest.mark.parametrize("dynamo", [False, True], ids=["legacy", "dynamo"])
@pytest.mark.parametrize(("function", "reason"), UNPROVEN.values(), ids=UNPROVEN)
def test_what_cannot_be_proven_equal_stays(function: Callable[..., Tensor], reason: str, dynamo: bool) -> None:
    result = cleaned(function, dynamo=dynamo)
    assert "NonZero" in op_types(result.model)
    assert any(reason in miss.reason for miss in near_misses(result))


def test_rows_where_integers_would_be_divided_by_zero_stay_out() -> None:
    model = text_model("""m (int64[4] x, int64[4] d, bool[4] mask) => (int64[4] y) {
        n = NonZero (mask) p = Transpose <perm = [1, 0]> (n)
        a = GatherND (x, p) b = GatherND (d, p) q = Div (a, b) y = ScatterND (x, p, q)
    }""")
    result = rewrite(model, select_passes(uniad_graph_passes(), ["mask-instead-of-positions"]), [], check=False)
    assert "divides integers" in near_misses(result)[0].reason


def test_a_mask_repeated_along_a_leading_axis_selects_other_rows() -> None:
    model = text_model(
        """m (float[4, 4, 4] x, float[4, 4, 4] z, bool[4] mask) => (float[4, 4, 4] y) {
            n = NonZero (mask) p = Transpose <perm = [1, 0]> (n) rows = GatherND (z, p) values = Reshape (rows, flat)
            column = Unsqueeze (mask, last) repeated = Expand (column, cube)
            m = NonZero (repeated) q = Transpose <perm = [1, 0]> (m) y = ScatterND (x, q, values)
        }""",
        flat=np.array([-1]),
        last=np.array([1]),
        cube=np.array([4, 4, 4]),
    )
    result = rewrite(model, select_passes(uniad_graph_passes(), ["mask-instead-of-positions"]), [])
    assert "NonZero" in op_types(result.model)
    assert any("selected by another mask" in miss.reason for miss in near_misses(result))


def near_misses(result: Rewritten) -> list[NearMiss]:
    """Those of the pass under test."""
    [run] = [run for run in result.log if run.name == "mask-instead-of-positions"]
    return list(run.outcome.near_misses)
