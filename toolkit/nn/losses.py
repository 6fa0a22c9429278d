"""Terms that losses and the matching of predictions with ground truth are made of, in mmdetection's conventions."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, distributed
from torch.nn import functional

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2.0
COST_EPS = 1e-12
BOX_EPS = 1e-6


def sigmoid_focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Focal loss (Lin et al. 2017) of every entry, [..., C], of logits [..., C] with labels [...] int64.

    A label of C is the background: none of the classes. Of half precision it is computed in float32.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    meant = labels.unsqueeze(-1) == torch.arange(logits.shape[-1], device=logits.device)
    right = torch.where(meant, logits, -logits)
    alpha = torch.where(meant, -FOCAL_ALPHA, FOCAL_ALPHA - 1)
    return functional.logsigmoid(right) * (-right).sigmoid() ** FOCAL_GAMMA * alpha


def focal_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """What it costs, by the focal loss, that queries of logits [..., N, C] take objects of labels [G]: [..., N, G]."""
    probability = logits.sigmoid()
    taken = -(probability + COST_EPS).log() * FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA
    left = -(1 - probability + COST_EPS).log() * (1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA
    return (taken - left)[..., labels]


def l1_cost(predicted: Tensor, true: Tensor) -> Tensor:
    """Sum of absolute differences of rows [..., N, D] and [G, D]: [..., N, G]."""
    return (predicted[..., None, :] - true).abs().sum(-1)


def chosen_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Rows [..., F] of x [..., N, D]: [..., F, D]."""
    return x.gather(-2, rows.unsqueeze(-1).expand(*rows.shape, x.shape[-1]))


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of axis-aligned boxes [..., 4] (x1, y1, x2, y2) whose leading dimensions broadcast."""
    intersection, union = _intersection_and_union(a, b)
    return intersection / union


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """As `iou`, less the share of the common hull that neither covers (Rezatofighi et al. 2019); from -1 to 1."""
    intersection, union = _intersection_and_union(a, b)
    low, high = torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])
    hull = _area((high - low).clamp(min=0)).clamp(min=BOX_EPS)
    return intersection / union - (hull - union) / hull


def _intersection_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    intersection = _area((high - low).clamp(min=0))
    areas = _area(a[..., 2:] - a[..., :2]) + _area(b[..., 2:] - b[..., :2])
    return intersection, (areas - intersection).clamp(min=BOX_EPS)


def _area(sides: Tensor) -> Tensor:
    """Of [..., 2]. Unlike that of `prod`, its gradient is two products."""
    width, height = sides.unbind(-1)
    return width * height


def dice_loss(predicted: Tensor, true: Tensor, eps: float = 1e-6) -> Tensor:
    """1 - 2 ab / (aa + bb), with squares below (Milletari et al. 2016), of rows [..., D] that broadcast: [...].

    `eps` is added to each of the two sums below.
    """
    both = (predicted * true).sum(-1)
    return 1 - 2 * both / (((predicted * predicted).sum(-1) + eps) + ((true * true).sum(-1) + eps))


def averaged(total: Tensor, count: Tensor | float) -> Tensor:
    """A sum over what it counts. The rounding step of the sum's type is added below, as mmdetection does.

    Where several processes train together, the count is the mean of theirs.
    """
    return total / (_mean_over_processes(count, total) + torch.finfo(total.dtype).eps)


def _mean_over_processes(count: Tensor | float, like: Tensor) -> Tensor | float:
    if not (distributed.is_available() and distributed.is_initialized()):
        return count
    mean = torch.as_tensor(count, dtype=like.dtype, device=like.device).clone()
    distributed.all_reduce(mean)
    return mean / distributed.get_world_size()


def hungarian(cost: Tensor) -> tuple[Tensor, Tensor]:
    """The assignment of least total cost, of each matrix in [..., N, G]: rows (ascending) and their columns.

    Both are int64 [..., min(N, G)]. Costs leave their device at once. Raises ArithmeticError where a cost is NaN, or no
    assignment has a finite one.
    """
    rows, columns = torch.stack(least_cost(on_host(cost))).to(cost.device)
    return rows, columns


def on_host(cost: Tensor) -> Tensor:
    """Costs where SciPy can read them; a GPU is waited for."""
    return (cost.float() if cost.dtype is torch.bfloat16 else cost).detach().cpu()


def least_cost(costs: Tensor) -> tuple[Tensor, Tensor]:
    """`hungarian`, of costs on the host."""
    matrices = costs[None] if costs.ndim == 2 else costs.flatten(0, -3)
    try:
        found = [linear_sum_assignment(matrix) for matrix in matrices.numpy()]
    except ValueError as error:
        raise ArithmeticError("a cost of matching is not finite") from error
    pairs = torch.as_tensor(np.asarray(found, np.int64))
    rows, columns = pairs[0].unbind() if costs.ndim == 2 else pairs.unflatten(0, costs.shape[:-2]).unbind(-2)
    return rows, columns
