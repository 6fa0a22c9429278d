"""What training computes in fewer operators than inference, or at once, is the same."""

from __future__ import annotations

import pytest
import torch

from toolkit.nn.attention import MultiheadAttention
from toolkit.nn.losses import generalized_iou, sigmoid_focal_loss
from toolkit.training.clip_model import means, total


@pytest.mark.parametrize("shared", ["aaa", "aab", "abb", "aba", "abc"])
def test_attention_projects_at_once_what_comes_of_one_input(shared: str) -> None:
    torch.manual_seed(0)
    attention = MultiheadAttention(16, 4).double()
    torch.nn.init.normal_(attention.in_proj_bias)
    with torch.enable_grad():
        tensors = {name: torch.randn(5, 16, dtype=torch.double, requires_grad=True) for name in "abc"}
        inputs = [tensors[name] for name in shared]
        found = []
        for training in (False, True):
            out = attention.train(training)(*inputs)
            found.append((out, *torch.autograd.grad(out.square().sum(), [*inputs, *attention.parameters()])))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_focal_loss_is_the_formula_of_the_documentation() -> None:
    logits = torch.tensor([[-30.0, 0.5, 2.0], [40.0, -1.0, 0.0]], dtype=torch.double)
    p = logits.sigmoid()
    expected = -0.75 * p**2 * (1 - p).log()
    expected[0, 2] = -0.25 * (1 - p[0, 2]) ** 2 * p[0, 2].log()
    expected[1, 0] = 0.75 * 40  # where the logarithm of what is left to 1 has no digits any more
    found = sigmoid_focal_loss(logits, torch.tensor([2, 3]))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
    assert torch.equal(sigmoid_focal_loss(logits[None], torch.tensor([[2, 3]]))[0], found)
    assert sigmoid_focal_loss(logits.bfloat16(), torch.tensor([2, 3])).dtype == torch.float32


def test_boxes_without_extent_have_gradients() -> None:
    with torch.enable_grad():
        box = torch.tensor([[1.0, 1.0, 1.0, 1.0]], requires_grad=True)
        generalized_iou(box, torch.tensor([[0.0, 0.0, 2.0, 2.0]])).sum().backward()
    assert box.grad is not None
    assert box.grad.isfinite().all()


def test_losses_of_two_types_are_added_in_the_wider_one() -> None:
    losses = {
        "a_loss": torch.tensor(0.1),
        "b_loss": torch.tensor(0.2, dtype=torch.double),
        "figure": torch.tensor([5.0, 7.0]),
        "c_loss": torch.tensor(float("nan")),
    }
    assert total(losses).item() == pytest.approx(0.3, rel=1e-7)  # the first is a float32
    names, values = means(losses)
    assert values.dtype == torch.double
    assert dict(zip(names, values.tolist(), strict=True))["figure"] == 6
