"""Products of two computed matrices: which become calls of the toolkit's kernel, and what its operator computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.toolkit.engines.gpu.kernel_passes import OURS, Function, apply, argument, x
from toolkit.engines.gpu.compiled.operators import matmul
from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, calls
from toolkit.engines.gpu.compiled.passes.use_matmul import LONG, SHARE, use_matmul
from toolkit.precision import Precision

pytestmark = pytest.mark.thorough


def multiply(_: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    return a @ b.transpose(-1, -2)


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("precision", Precision)
def test_a_product_of_computed_matrices(batch: tuple[int, ...], precision: Precision) -> None:
    a, b = x(*batch, 16, 64), x(*batch, 20, 64)
    count, gm = apply(use_matmul, Function(multiply), a, b, precision=precision)
    assert count == 1
    assert not calls(gm, Aten.matmul.default)
    (product,) = calls(gm, OURS.matmul.default)
    assert argument(product, "precision") == str(precision)


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("precision", Precision)
def test_few_rows_of_many_columns_stay_precise(batch: tuple[int, ...], precision: Precision) -> None:
    count, gm = apply(use_matmul, Function(multiply), x(*batch, 8, 32), x(*batch, LONG, 32), precision=precision)
    assert count == 1
    (product,) = calls(gm, OURS.matmul.default)
    assert argument(product, "precision") == str(Precision.FP32)


def test_a_constant_factor_stays_one() -> None:
    """As where a parameter attends: a view of it would be a call that other parts of the graph wait for."""
    module = Function(lambda m, b: multiply(m, m.queries, b))
    module.queries = nn.Parameter(x(8, 32))
    _, gm = apply(use_matmul, module, x(LONG, 32))
    (product,) = calls(gm, OURS.matmul.default)
    assert argument(product, "a").op == "get_attr"


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize(("length", "share"), [(40_000, 320), (LONG, SHARE), (32 * 257, 32)])
def test_a_long_sum_of_few_rows_is_shared(length: int, share: int, precision: Precision) -> None:
    """No factor is copied."""
    module = Function(lambda m, a, b: a @ b)
    count, gm = apply(use_matmul, module, x(8, length), x(length, 16), precision=precision)
    assert count == 1
    (product,) = calls(gm, OURS.matmul.default)
    a, b = (argument(product, name).meta["val"] for name in ("a", "b"))
    assert (a.shape, a.stride()) == ((length // share, 8, share), (share, length, 1))
    assert (b.shape, b.is_contiguous()) == ((length // share, share, 16), True)
    assert argument(product, "precision") == str(Precision.FP32)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((8, 64), (20, 64)),
        ((16, 64), (8, 64)),
        ((16, 40), (20, 40)),
        ((2, 16, 64), (20, 64)),
        ((2, 16, 64), (1, 20, 64)),
        ((2, 3, 16, 64), (2, 3, 20, 64)),
        ((8, LONG - 32), (20, LONG - 32)),
        ((8, LONG), (8, LONG)),
        ((2, 8, LONG), (2, 20, LONG)),
    ],
    ids=[
        "few rows",
        "few columns",
        "a sum of 40",
        "one matrix for all",
        "batches repeated",
        "two axes of batches",
        "few rows of a shorter sum",
        "few rows and columns",
        "few rows of batches",
    ],
)
def test_products_that_stay(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    assert apply(use_matmul, Function(multiply), x(*a), x(*b))[0] == 0


def test_a_product_of_another_type_stays() -> None:
    module = Function(lambda m, a, b: (a.double() @ b.double().t()).float())
    assert apply(use_matmul, module, x(16, 64), x(20, 64))[0] == 0


@pytest.mark.parametrize("precision", Precision)
def test_the_operator(precision: Precision) -> None:
    """Small whole numbers are exact in every precision; torch can compile it."""
    a, b = ((x(2, rows, 32) * 4).round() for rows in (5, 7))
    assert torch.equal(matmul(a, b.transpose(1, 2), precision), a @ b.transpose(1, 2))
    for columns in (b.transpose(1, 2), b.transpose(1, 2).contiguous()):
        torch.library.opcheck(matmul, (a, columns, str(precision)))
    rounded = matmul(x(1, 5, 32), x(1, 7, 32).transpose(1, 2), precision)
    whole = x(1, 5, 32).double() @ x(1, 7, 32).transpose(1, 2).double()
    assert ((rounded - whole).abs().max() < 1e-5) == (precision is Precision.FP32)
