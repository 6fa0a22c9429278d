"""Which attention becomes a call of the toolkit's kernel, in each precision, and that results stay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.toolkit.engines.gpu.kernel_passes import OURS, Function, apply, argument, x
from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, calls
from toolkit.engines.gpu.compiled.passes.use_attention import use_attention
from toolkit.nn.attention import MASKED_LOGIT, MultiheadAttention, mask_logits
from toolkit.precision import Precision

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize(
    "valid",
    [
        None,
        torch.tensor([True, False, True, True, False]),
        torch.tensor([False] * 5),
        torch.tensor([[True], [False], [True]]),
        torch.tensor([[True] * 5, [False] * 5, [False] * 4 + [True]]),
        torch.tensor([[[True] * 5] * 3, [[False, True] * 2 + [False]] * 3]),
    ],
    ids=["no mask", "by key", "no valid key", "by query", "by both", "by head"],
)
def test_attention(valid: Tensor | None) -> None:
    """A query without a valid key gives the average of the values, as before."""
    masks = () if valid is None else (valid,)
    module = Function(lambda m, q, k, *valid: m.attend(q, k, k, *valid), attend=MultiheadAttention(32, 2))
    count, gm = apply(use_attention, module, x(3, 32), x(5, 32), *masks)
    assert count == 1
    assert not calls(gm, Aten.softmax.int, Aten.matmul.default)


def test_attention_of_several_batches() -> None:
    """Four axes instead of three, and the mask of each batch."""
    module = Function(lambda m, q, k, valid: m.attend(q, k, k, valid), attend=MultiheadAttention(32, 2))
    valid = x(4, 1, 1, 5) > 0
    count, gm = apply(use_attention, module, x(4, 3, 32), x(4, 5, 32), valid)
    assert count == 1
    (attention,) = calls(gm, OURS.attention.default)
    assert attention.meta["val"].shape == (4, 3, 2, 16)


@pytest.mark.parametrize("precision", Precision)
def test_attention_knows_its_precision(precision: Precision) -> None:
    module = Function(lambda m, q: m.attend(q, q, q), attend=MultiheadAttention(32, 2))
    _, gm = apply(use_attention, module, x(3, 32), precision=precision)
    (attention,) = calls(gm, OURS.attention.default)
    assert argument(attention, "precision") == str(precision)
    assert argument(attention, "scale") == 16**-0.5


def attend(_: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-1, -2)).softmax(-1) @ v


@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        ((2, 1, 16), (2, 5, 16), (2, 5, 16)),
        ((2, 3, 24), (2, 5, 24), (2, 5, 24)),
        ((2, 3, 16), (2, 5, 16), (2, 5, 32)),
        ((2, 3, 16), (1, 5, 16), (1, 5, 16)),
    ],
    ids=["one query", "odd width", "values of another width", "keys shared by batches"],
)
def test_attention_that_stays(query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...]) -> None:
    assert apply(use_attention, Function(attend), x(*query), x(*key), x(*value))[0] == 0


@pytest.mark.parametrize(("masked", "count"), [(MASKED_LOGIT, 1), (-1.0, 0), (float("-inf"), 0)])
def test_only_the_toolkits_own_masked_logit_is_replaced_in_the_kernel(masked: float, count: int) -> None:
    def attend_masked(_: nn.Module, q: Tensor, valid: Tensor) -> Tensor:
        return torch.where(valid, q @ q.transpose(-1, -2), masked).softmax(-1) @ q

    assert apply(use_attention, Function(attend_masked), x(2, 3, 16), torch.tensor([True, False, True]))[0] == count


def test_a_mask_of_more_batches_than_the_attention_stays() -> None:
    module = Function(lambda m, q, valid: mask_logits(q @ q.transpose(-1, -2), valid).softmax(-1) @ q)
    assert apply(use_attention, module, x(1, 3, 16), x(2, 1, 3) > 0)[0] == 0
