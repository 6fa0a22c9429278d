"""The metric of plans: against the driven path, and against what occupies the cells that they cross."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plugins.planning.ground_truth import STEPS, DrivenPath, driven_path
from plugins.planning.metrics import CELL_METRES, PlanErrors, averaged_over_time, mean_errors, plan_errors
from toolkit.data.ground_truth import Gap, counted
from toolkit.evaluation.metric import Figure, JudgedFrame, Loss, Measured, Metric, Plot, Ranking, Series, Verdict
from toolkit.runtime.results import FrameResult, PlanResult

STEP_SECONDS = 0.5
SECONDS = tuple(STEP_SECONDS * step for step in range(1, STEPS + 1))
WHOLE_SECONDS = (1.0, 2.0, 3.0)
AT_WHOLE_SECONDS = [SECONDS.index(second) for second in WHOLE_SECONDS]
GRID_METRES = 25.0
"""Width of the grid in which collisions are looked up for a model without occupancy."""
UNITS = {"L2": ("m", 1.0), "obj_col": ("%", 100.0), "obj_box_col": ("%", 100.0)}
"""Of each of the quantities: its unit, and what makes it of the mean."""
MEAN = "mean of 1, 2 and 3 s"
UNIAD, UNIAD_REDUCTION = "UniAD, at the step", "mean over samples; a step without driven path counts as 0"
ST_P3, ST_P3_REDUCTION = "ST-P3 and VAD, mean of all steps until then", "mean over samples with a driven path of 3 s"


@dataclass(frozen=True, eq=False)
class JudgedPlan:
    """The errors of one sample, [6] each; which steps of the driven path are `known` [6], and what is not."""

    errors: PlanErrors
    known: NDArray[np.bool_]
    gap: Gap | None


def measure(frame: JudgedFrame) -> JudgedPlan | Gap:
    """The plan's distance and collisions at each step."""
    from plugins.occupancy.ground_truth import instance_grids

    plan = frame.result.plan
    if plan is None or not _is_judgeable(plan):
        return Gap(frame.annotated.token, f"a plan of {STEPS} steps of {STEP_SECONDS} s")
    path = driven_path(frame.scene, frame.index)
    grids = instance_grids(frame.scene, frame.index, size=_grid_size(frame.result), cell_metres=CELL_METRES)
    if isinstance(grids, Gap):
        return grids
    return judge(plan, path, grids.segmentation[1 : STEPS + 1])


def judge(plan: PlanResult, path: DrivenPath, occupied: NDArray[np.uint8]) -> JudgedPlan:
    """The errors of a plan against the driven path and cells [6, n, n] that are occupied at its steps."""
    errors = plan_errors(plan.points[None, :STEPS], path.points[None], path.mask[None], occupied[None])
    return JudgedPlan(
        PlanErrors(errors.l2[0], errors.point_collides[0], errors.box_collides[0]), path.mask[:, 0] > 0, path.gap
    )


def _is_judgeable(plan: PlanResult) -> bool:
    return len(plan.points) >= STEPS and abs(plan.step_seconds - STEP_SECONDS) < 1e-6


def _grid_size(result: FrameResult) -> int:
    """Cells a side: as many as cover the model's own occupancy, since collisions depend on where the grid ends."""
    space = result.occupancy
    return round((GRID_METRES if space is None else space.x_range[1] - space.x_range[0]) / CELL_METRES)


def compute(measured: Measured, folder: Path) -> Verdict:
    """Figures under both protocols, and the frames whose plans end farthest from the driven path."""
    plans: Sequence[JudgedPlan] = measured.values
    complete = [plan for plan in plans if plan.known.all()]
    at_steps = mean_errors(_stacked(plans))
    averaged = {name: averaged_over_time(values) for name, values in mean_errors(_stacked(complete)).items()}
    gaps = [plan.gap for plan in plans if plan.gap is not None]
    return Verdict(
        figures=[*_at_the_step(at_steps), *_over_time(averaged)],
        plots=_plots(at_steps, averaged),
        rankings=[_worst(measured)],
        notes=[str(gap) for gap in counted(gaps)],
    )


def _stacked(plans: Sequence[JudgedPlan]) -> PlanErrors:
    errors = [plan.errors for plan in plans]
    return PlanErrors(
        l2=np.array([each.l2 for each in errors], np.float32).reshape(-1, STEPS),
        point_collides=np.array([each.point_collides for each in errors], np.bool_).reshape(-1, STEPS),
        box_collides=np.array([each.box_collides for each in errors], np.bool_).reshape(-1, STEPS),
    )


def _at_the_step(values: dict[str, NDArray[np.float64]]) -> Iterator[Figure]:
    for name, (unit, scale) in UNITS.items():
        for second, value in zip(SECONDS, values[name], strict=True):
            yield Figure(f"{name}@{second:g}s", float(value) * scale, unit, UNIAD, UNIAD_REDUCTION, False)
        mean = float(values[name][AT_WHOLE_SECONDS].mean()) * scale
        yield Figure(f"{name}@avg", mean, unit, f"{UNIAD}, {MEAN}", UNIAD_REDUCTION, False)


def _over_time(values: dict[str, NDArray[np.float64]]) -> Iterator[Figure]:
    for name, (unit, scale) in UNITS.items():
        for second, value in zip(WHOLE_SECONDS, values[name], strict=True):
            yield Figure(f"ST-P3/{name}@{second:g}s", float(value) * scale, unit, ST_P3, ST_P3_REDUCTION, False)
        mean = float(values[name].mean()) * scale
        yield Figure(f"ST-P3/{name}@avg", mean, unit, f"{ST_P3}, {MEAN}", ST_P3_REDUCTION, False)


def _plots(at_steps: dict[str, NDArray[np.float64]], averaged: dict[str, NDArray[np.float64]]) -> Sequence[Plot]:
    percent = {name: values * 100 for name, values in at_steps.items()}
    return (
        Plot(
            "L2",
            "Distance of the plan to the driven path",
            "time ahead (s)",
            "L2 (m)",
            (
                Series("UniAD, at the step", SECONDS, at_steps["L2"].tolist()),
                Series("ST-P3, averaged until then", WHOLE_SECONDS, averaged["L2"].tolist()),
            ),
        ),
        Plot(
            "collisions",
            "Plans that collide",
            "time ahead (s)",
            "samples (%)",
            (
                Series("footprint (obj_box_col)", SECONDS, percent["obj_box_col"].tolist()),
                Series("point (obj_col)", SECONDS, percent["obj_col"].tolist()),
            ),
        ),
    )


def _worst(measured: Measured) -> Ranking:
    judged = zip(measured.frames, measured.values, strict=True)
    badness = {
        scene.frames[index].token: float(plan.errors.l2[-1]) for (scene, index), plan in judged if plan.known[-1]
    }
    return Ranking("plan-error", f"plan error at {SECONDS[-1]:g} s", "m", badness)


METRIC = Metric(
    name="planning",
    meaning="distance of plans to the driven path, and their collisions",
    needs=("plan",),
    truth=("the driven path", "annotations"),
    open=lambda truth: measure,
    compute=compute,
    losses=(Loss("L2@avg", share=0.02), Loss("obj_box_col@avg", absolute=0.02)),
)
