"""Terms of losses on numbers that can be followed by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from toolkit.nn.losses import averaged, dice_loss, focal_cost, generalized_iou, hungarian, iou, sigmoid_focal_loss


def test_focal_loss_weighs_what_is_missed_by_the_square_of_how_much() -> None:
    """At logit 0 both are missed by a half: a quarter of log 2, times alpha or the rest of it."""
    loss = sigmoid_focal_loss(torch.zeros(2, 2), torch.tensor([1, 2]))
    hit, background = 0.25 * 0.25 * math.log(2), 0.75 * 0.25 * math.log(2)
    torch.testing.assert_close(loss, torch.tensor([[background, hit], [background, background]]))


def test_focal_loss_has_gradients_where_logits_saturate() -> None:
    with torch.enable_grad():
        logits = torch.tensor([[-200.0], [200.0]], requires_grad=True)
        sigmoid_focal_loss(logits, torch.tensor([0, 1])).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.25], [0.75]]))


def test_focal_cost_is_what_taking_the_object_adds() -> None:
    """Less than nothing for a query that is sure of its class."""
    cost = focal_cost(torch.tensor([[0.0, 4.0]]), torch.tensor([1, 0, 1]))
    assert cost.shape == (1, 3)
    assert cost[0, 1].item() == pytest.approx((0.25 - 0.75) * 0.25 * math.log(2))
    assert cost[0, 0] == cost[0, 2] < cost[0, 1]


def test_overlap_of_squares() -> None:
    a, b, apart = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [3, 0, 4, 2]])
    assert iou(a, b).item() == pytest.approx(2 / 6)
    assert generalized_iou(a, b).item() == pytest.approx(2 / 6)
    assert iou(a, apart).item() == 0
    assert generalized_iou(a, apart).item() == pytest.approx(-2 / 8)
    assert generalized_iou(torch.stack((a, b))[:, None], torch.stack((a, b, apart))).shape == (2, 3)


def test_boxes_without_area_overlap_nothing() -> None:
    point = torch.ones(4)
    assert iou(point, point).item() == generalized_iou(point, point).item() == 0


def test_dice_of_halves() -> None:
    """One of two cells is right: 1 - 2 / (2 + 1)."""
    assert dice_loss(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0]), eps=0).item() == pytest.approx(1 / 3)
    assert dice_loss(torch.zeros(2), torch.zeros(2)).item() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_counted_is_no_division_by_zero(dtype: torch.dtype) -> None:
    assert averaged(torch.zeros(1, dtype=dtype), 0).item() == 0
    assert averaged(torch.ones(1, dtype=dtype), 1).item() == 1 - torch.finfo(dtype).eps


def test_hungarian_assignments_of_several_costs() -> None:
    """Each is that of its own."""
    costs = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    rows, columns = hungarian(costs)
    assert rows.shape == columns.shape == (2, 3, 4)
    for index in itertools.product(range(2), range(3)):
        assert torch.equal(torch.stack((rows[index], columns[index])), torch.stack(hungarian(costs[index])))
    assert hungarian(torch.zeros(2, 3, 0))[0].shape == (2, 0)


def test_hungarian_assignment_is_the_cheapest_as_a_whole() -> None:
    """The first row leaves the column that is best for it to the second."""
    rows, columns = hungarian(torch.tensor([[1.0, 2.0], [1.0, 9.0], [50.0, 50.0]]))
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])
    assert all(len(x) == 0 for x in hungarian(torch.zeros(3, 0)))
    with pytest.raises(ArithmeticError, match="a cost of matching is not finite"):
        hungarian(torch.tensor([[math.nan]]))
