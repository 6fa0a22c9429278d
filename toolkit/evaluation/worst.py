"""The worst frames of an evaluation as pictures: results from above, and what the data set knows about the frame."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from toolkit.data.annotations import Annotation
from toolkit.data.ground_truth import AnnotatedScene, GroundTruth, Objects
from toolkit.data.standpoint import EGO_BOX_BOTTOM, seen_from
from toolkit.evaluation.evaluation_file import BadFrame, Evaluation, WorstFrames, frame_file
from toolkit.runtime.results import FrameResult
from toolkit.visualize.birds_eye import EgoSquare, Layer
from toolkit.visualize.canvas import Picture, blank, dash, dot
from toolkit.visualize.frame_picture import draw_result, write_picture
from toolkit.visualize.lettering import shortened, write
from toolkit.visualize.palette import GROUND, INK, TRUTH

PICTURES = 3
"""Of each ranking."""
_CAPTION = 40
"""Pixels, above the picture."""


def draw_worst(
    evaluation: Evaluation,
    truth: GroundTruth,
    read: Callable[[str], FrameResult],
    folder: Path,
    layers: Sequence[Layer] = (),
) -> list[Path]:
    """Write METRIC-RANKING_PLACE_TOKEN.png into a folder for the first few frames of each ranking.

    `read` gives the result, as it was judged, of a frame by its token; `layers` draw further parts of results. Raises
    InputError for a result that cannot be read, and for a picture that cannot be written.
    """
    places = {frame.token: (scene, i) for scene in truth.scenes for i, frame in enumerate(scene.frames)}
    written = []
    for metric in evaluation.metrics:
        for ranking in metric.worst:
            for place, bad in enumerate(ranking.frames[:PICTURES], 1):
                caption = caption_of(ranking, bad, place)
                picture = draw_judged(read(bad.token), *places[bad.token], caption, layers)
                path = folder / frame_file(metric.name, ranking.name, place, bad.token)
                write_picture(picture, path)
                written.append(path)
    return written


def draw_judged(
    result: FrameResult, scene: AnnotatedScene, index: int, caption: str, layers: Sequence[Layer] = ()
) -> Picture:
    """RGB [1000, 1280, 3]: a caption, and below it the result from above; what the data set knows is dashed.

    That is the objects that a sensor has hit, of the result's classes if it names them, and the way that was driven
    while the plan lasts.
    """
    classes = None if result.detections is None else result.detections.classes
    annotations = _annotations(scene.frames[index].objects, classes)
    steps = 0 if result.plan is None else len(result.plan.points)
    drawn = draw_result(result, annotations, (*layers, _driven(scene, index, steps)))
    strip = blank(drawn.shape[1], _CAPTION, GROUND)
    write(strip, shortened(caption, 19, strip.shape[1] - 24), (12, _CAPTION / 2 + 4), 19, INK, bold=True)
    return np.concatenate([strip, drawn])


def caption_of(ranking: WorstFrames, frame: BadFrame, place: int) -> str:
    """As "plan error: 2.5 m, the worst frame", or "…, the 2nd worst frame"."""
    ordinal = {1: "", 2: "2nd ", 3: "3rd "}.get(place, f"{place}th ")
    return f"{ranking.title}: {f'{frame.badness:.4g} {ranking.unit}'.strip()}, the {ordinal}worst frame"


def _annotations(objects: Objects | None, classes: Collection[str] | None) -> list[Annotation]:
    """Objects that a sensor has hit, as pictures show them; of these classes, or of all."""
    if objects is None:
        return []
    return [
        Annotation(
            instance=objects.instance[i],
            label=objects.label[i],
            center=tuple(objects.center[i].tolist()),
            size=tuple(objects.size[i].tolist()),
            heading=float(objects.heading[i]),
            velocity=tuple(np.nan_to_num(objects.velocity[i]).tolist()),
        )
        for i in np.flatnonzero(objects.hit)
        if classes is None or objects.label[i] in classes
    ]


def _driven(scene: AnnotatedScene, index: int, steps: int) -> Layer:
    """The way of the vehicle's LiDAR over the ground, through up to so many key frames after one."""
    now, later = scene.frames[index], scene.frames[index + 1 :][:steps]
    way = np.array([seen_from(now, frame, EGO_BOX_BOTTOM)[:2] for frame in (now, *later)])

    def draw(picture: Picture, view: EgoSquare, result: FrameResult) -> None:
        points = view.pixels(way)
        dash(picture, np.stack([points[:-1], points[1:]], axis=1), TRUTH, period=5)
        for point in points[1:]:
            dot(picture, point, 2.5, TRUTH)

    return draw
