"""A plugin whose data set, "hand:…", is three scenes made by hand, and metrics that say simple things of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch.nn import Identity

from tests.evaluation.evaluations import figure
from tests.evaluation.scenes import Thing, frame_at
from tests.toolkit.toy_bundle import toy_frame
from toolkit.config.model import ImageConfig
from toolkit.data.frames import Frame
from toolkit.data.ground_truth import AnnotatedScene, Gap, GroundTruth
from toolkit.data.source_kind import FrameSourceKind, Options, Warn
from toolkit.errors import InputError
from toolkit.evaluation.metric import JudgedFrame, Measure, Measured, Metric, Plot, PlotKind, Ranking, Series, Verdict
from toolkit.hookspecs import hookimpl
from toolkit.runtime.results import FrameResult
from toolkit.specs import Refinement, Submodule

FRAMES = 6
RIGHT = 10.0
"""Where all plans should end (m ahead)."""


def truth(path: Path, options: Options) -> GroundTruth:
    """frame0 to frame5, two in a scene, each with a car; in a data set called "test" nothing is annotated."""
    things = None if path.name == "test" else [Thing(0, x=3.0, y=4.0)]
    frames = [replace(frame_at(float(i), things), token=f"frame{i}") for i in range(FRAMES)]
    scenes = [AnnotatedScene(f"scene{i // 2}", None, tuple(frames[i : i + 2])) for i in range(0, FRAMES, 2)]
    return GroundTruth(tuple(scenes), lambda place, layers: None)


def frames(path: Path, options: Options, image: ImageConfig, warn: Warn) -> list[Frame]:
    """The same with pictures, for a bundle of toys."""
    return [toy_frame(i, f"scene{i // 2}") for i in range(FRAMES)]


def measure_end(frame: JudgedFrame) -> float:
    """How far from where it should the plan ends (m)."""
    assert frame.result.plan is not None
    return abs(float(frame.result.plan.points[-1, 1]) - RIGHT)


def sum_up_ends(measured: Measured, folder: Path) -> Verdict:
    """The mean, its part that is more than a metre, and the frames themselves."""
    errors = np.array(measured.values)
    tokens = [scene.frames[index].token for scene, index in measured.frames]
    return Verdict(
        [
            figure("mean@2s", errors.mean() / 2),
            figure("mean@3s", errors.mean()),
            figure("good", 100 * (errors < 1).mean(), higher_is_better=True, unit="%"),
            figure("unknown", np.nan),
        ],
        plots=[Plot("end", "Ends of plans", "frame", "m", [Series("error", tokens, errors.tolist())], PlotKind.BARS)],
        rankings=[Ranking("end", "end of the plan", "m", dict(zip(tokens, measured.values, strict=True)))],
        notes=["read back " + (folder / "ends.json").read_text()] if len(errors) == 1 else [],
    )


def export_ends(measured: Measured, folder: Path) -> Sequence[Path]:
    """What was measured, as a file."""
    (folder / "ends.json").write_text(json.dumps(list(measured.values)))
    return [folder / "ends.json"]


def export_nothing(measured: Measured, folder: Path) -> Sequence[Path]:
    """A file that there is not."""
    return [folder / "forgotten.json"]


def export_elsewhere(measured: Measured, folder: Path) -> Sequence[Path]:
    """A file that is not in the folder."""
    return [folder.parent / "astray.json"]


def measure_cars(frame: JudgedFrame) -> int | Gap:
    """How many objects are annotated."""
    objects = frame.annotated.objects
    return Gap(frame.annotated.token, "annotations") if objects is None else len(objects.instance)


def without_package(truth: GroundTruth) -> Measure:
    """A metric that needs what is not installed."""
    raise InputError("far needs a package that is not installed; pip install it")


METRICS = (
    Metric("ends", "ends of plans", ("plan",), (), lambda truth: measure_end, sum_up_ends, export_ends),
    Metric(
        "cars",
        "annotated objects",
        (),
        ("annotations",),
        lambda truth: measure_cars,
        lambda measured, folder: Verdict([figure("seen/all", sum(measured.values), unit="")]),
    ),
    Metric("far", "nothing", (), (), without_package, lambda measured, folder: Verdict()),
    Metric(
        "lost",
        "frames of nobody",
        (),
        (),
        lambda truth: measure_cars,
        lambda measured, folder: Verdict(rankings=[Ranking("end", "end", "m", {"nowhere": 1.0})]),
    ),
    Metric("broken", "nothing", ("wheels",), (), lambda truth: measure_end, sum_up_ends),
    Metric("forgetful", "nothing", ("plan",), (), lambda truth: measure_end, sum_up_ends, export_nothing),
    Metric("astray", "nothing", ("plan",), (), lambda truth: measure_end, sum_up_ends, export_elsewhere),
)


def perfect(result: FrameResult) -> FrameResult:
    """The same with a plan that ends where it should."""
    assert result.plan is not None
    return replace(result, plan=replace(result.plan, points=np.array([[0.0, RIGHT]], np.float32)))


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """One that has no part in a network, and an option."""
    return (
        Submodule(
            "perfect",
            ("perfect.",),
            (),
            (),
            lambda config: Identity(),
            refinements=(Refinement("--perfect", "Cheat.", perfect),),
        ),
    )


@hookimpl
def uniad_metrics() -> Sequence[Metric]:
    """All of them."""
    return METRICS


@hookimpl
def uniad_frame_sources() -> Sequence[FrameSourceKind]:
    """The scenes, as frames and as ground truth."""
    return (FrameSourceKind("hand", "hand:NAME", frames, ground_truth=truth),)
