"""How well a plan drives: its distance to the driven path, and how often it would have collided.

The protocol of UniAD (Hu et al. 2023): each figure is that of one time step, over all samples. Cells are 0.5 m wide,
rows follow y (forward) and columns x (right) of the LiDAR frame, and the grid is centred on the LiDAR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELL_METRES = 0.5
EGO_LENGTH, EGO_WIDTH, EGO_CENTRE_AHEAD = 4.084, 1.85, 0.5
"""Of the footprint in metres, which lies along the axes: a plan's heading is not considered."""


@dataclass(frozen=True)
class PlanErrors:
    """Of each sample at each step [N, 6]: distance in metres, and whether the plan collides there.

    A step that does not count, because its ground truth is missing or collides itself, is 0 or False.
    """

    l2: NDArray[np.float32]
    point_collides: NDArray[np.bool_]
    box_collides: NDArray[np.bool_]


def planning_metrics(
    plan: NDArray[Any],
    ground_truth: NDArray[Any],
    mask: NDArray[Any],
    segmentation: NDArray[Any],
) -> dict[str, NDArray[np.float64]]:
    """Mean `L2` (m), `obj_col` (the plan's points) and `obj_box_col` (the ego's footprint) at each step, [6] each.

    Takes plan and ground truth [N, 6, 2 or more] as (x, y) in metres in the LiDAR frame of the present, 0.5 s apart;
    mask [N, 6, 2], 1 where the ground truth exists; segmentation [N, 6, n, n] at these steps, anything but 0 occupied.
    Steps that do not count stay in the denominators. Without samples the figures are NaN. Distances are added in FP32,
    one sample after the other, as in the reference.
    """
    return mean_errors(plan_errors(plan, ground_truth, mask, segmentation))


def mean_errors(errors: PlanErrors) -> dict[str, NDArray[np.float64]]:
    """The figures of `planning_metrics` from errors that are already known."""
    fields = {"L2": errors.l2, "obj_col": errors.point_collides, "obj_box_col": errors.box_collides}
    with np.errstate(invalid="ignore"):
        return {name: values.sum(0) / np.float64(len(values)) for name, values in fields.items()}


def averaged_over_time(at_steps: NDArray[Any]) -> NDArray[np.float64]:
    """The figures [3] at 1, 2 and 3 s under the protocol of ST-P3 and VAD: means of all steps until then, of [6]."""
    return np.array([at_steps[: 2 * seconds].mean() for seconds in (1, 2, 3)], np.float64)


def plan_errors(
    plan: NDArray[Any],
    ground_truth: NDArray[Any],
    mask: NDArray[Any],
    segmentation: NDArray[Any],
) -> PlanErrors:
    """The errors of each sample; arguments as for `planning_metrics`.

    Raises ValueError if the arrays do not fit to each other.
    """
    plan, ground_truth = (np.asarray(path, np.float32)[..., :2] for path in (plan, ground_truth))
    samples, steps = plan.shape[:2]
    size = segmentation.shape[-1]
    shapes = (ground_truth.shape, np.shape(mask), segmentation.shape)
    if shapes != ((samples, steps, 2), (samples, steps, 2), (samples, steps, size, size)):
        raise ValueError(f"ground truth, mask and segmentation {shapes} do not fit to a plan of {plan.shape}")
    occupied = segmentation != 0
    squares = np.asarray(mask, np.float32) * (plan - ground_truth) ** 2
    counts = ~footprint_collides(ground_truth, occupied)
    return PlanErrors(
        np.sqrt(squares.sum(-1)),
        counts & point_collides(plan, occupied),
        counts & footprint_collides(plan, occupied),
    )


def footprint(size: int) -> NDArray[np.intp]:
    """Cells [K, 2] as (row, column) whose centres the ego covers at the origin of a grid of `size` cells a side."""
    centres = (np.arange(size) + 0.5 - size / 2) * CELL_METRES
    rows = np.flatnonzero(np.abs(centres - EGO_CENTRE_AHEAD) <= EGO_LENGTH / 2)
    columns = np.flatnonzero(np.abs(centres) <= EGO_WIDTH / 2)
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)


def footprint_collides(path: NDArray[np.float32], occupied: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the ego's footprint touches an occupied cell, [N, 6].

    Its cells move by whole ones, towards smaller indices, and those beyond the grid count as its border's.
    """
    size = occupied.shape[-1]
    cells = footprint(size).astype(np.float32)
    moved = np.trunc(path[:, :, None, ::-1] / np.float32(CELL_METRES) + cells).astype(np.intp).clip(0, size - 1)
    samples, steps = np.ogrid[: len(path), : path.shape[1]]
    touched = occupied[samples[..., None], steps[..., None], moved[..., 0], moved[..., 1]]
    collides: NDArray[np.bool_] = touched.any(-1)
    return collides


def point_collides(path: NDArray[np.float32], occupied: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a path's points lie in occupied cells, [N, 6]; beyond the grid there are none.

    The origin of the look-up is the centre of the first cell, so that it finds the cell half a cell lower.
    """
    size = occupied.shape[-1]
    first_centre = np.float32((0.5 - size / 2) * CELL_METRES)
    cells = np.trunc((path[..., ::-1] - first_centre) / np.float32(CELL_METRES))
    inside = ((cells >= 0) & (cells < size)).all(-1)
    rows, columns = np.moveaxis(np.where(inside[..., None], cells, 0).astype(np.intp), -1, 0)
    samples, steps = np.ogrid[: len(path), : path.shape[1]]
    collides: NDArray[np.bool_] = inside & occupied[samples, steps, rows, columns]
    return collides
