"""Pictures of the worst frames: what was said about them beside what the data set knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.evaluation.evaluations import VERDICT, evaluation
from tests.evaluation.scenes import Thing, frame_at, scene_with
from tests.visualize.drives import full_result, plan_ahead, result
from toolkit.data.ground_truth import AnnotatedFrame, AnnotatedScene, GroundTruth
from toolkit.evaluation.metric import Ranking, Verdict
from toolkit.evaluation.worst import caption_of, draw_judged, draw_worst
from toolkit.runtime.results import FrameResult
from toolkit.visualize.birds_eye import EgoSquare
from toolkit.visualize.canvas import Picture

CAPTION = 40


def seen(frame: AnnotatedFrame) -> AnnotatedFrame:
    """The frame with a point of the LiDAR on each object."""
    assert frame.objects is not None
    points = np.ones(len(frame.objects.instance), np.int64)
    return replace(frame, objects=replace(frame.objects, lidar_points=points))


def scene(*tokens: str, label: str = "car") -> AnnotatedScene:
    """Half a second and 4 m from one frame to the next; 10 m to the left of where the drive begins stands something."""
    thing = Thing(0, x=0.0, y=10.0, label=label)
    frames = [seen(frame_at(i / 2, [thing], x=4.0 * i)) for i in range(len(tokens))]
    return scene_with([replace(frame, token=token) for frame, token in zip(frames, tokens, strict=True)])


def truth(*tokens: str) -> GroundTruth:
    return GroundTruth((scene(*tokens),), lambda place, layers: None)


def test_the_first_few_frames_of_a_ranking_are_drawn(tmp_path: Path) -> None:
    """From results that are read by the frames' tokens; no picture of a camera is needed."""
    read: list[str] = []

    def result_of(token: str) -> FrameResult:
        read.append(token)
        return full_result()

    verdict = Verdict(rankings=[Ranking("error", "plan error", "m", {t: float(ord(t)) for t in "abcde"})])
    paths = draw_worst(evaluation(verdict), truth(*"abcde"), result_of, tmp_path)
    assert [path.name for path in paths] == [f"planning-error_{i}_{token}.png" for i, token in enumerate("edc", 1)]
    assert read == ["e", "d", "c"]
    assert {cv2.imread(str(path)).shape for path in paths} == {(1000, 1280, 3)}


def test_captions_tell_what_is_bad_and_how_bad() -> None:
    [ranking] = evaluation(VERDICT).metrics[0].worst
    captions = [caption_of(ranking, frame, place) for place, frame in enumerate(ranking.frames, 1)]
    assert captions[0] == "plan error: 2.5 m, the worst frame"
    assert captions[2] == "plan error: 0.5 m, the 3rd worst frame"


def white_at(drawn: np.ndarray, x: float, y: float) -> bool:
    """Whether ground truth is drawn within 0.3 m of a place (m, LiDAR frame) in the large view, below the headline."""
    view = EgoSquare(53.0, 900, ring_step=10)
    u, v = np.rint(view.pixels(np.array([[x, y]]))[0] + (12, CAPTION + 48)).astype(int)
    return bool(drawn[v - 3 : v + 4, u - 3 : u + 4].min(-1).max() > 160)


def test_the_driven_way_and_objects_are_drawn_where_they_are() -> None:
    """The way as long as the plan lasts: 12 m ahead in three key frames, the last of the scene."""
    drawn = draw_judged(result(plan=plan_ahead()), scene(*"abcd"), 0, "caption")
    assert all(white_at(drawn, 0.0, y) for y in (4.0, 8.0, 12.0))
    assert not white_at(drawn, 0.0, 16.0)
    assert white_at(drawn, -9.0, -3.0)
    assert not white_at(draw_judged(result(), scene(*"abcd"), 0, "caption"), 0.0, 8.0)


def test_only_what_the_model_knows_is_drawn() -> None:
    """Objects of other classes than the result's are no mistake of it; if it names none, all may be."""
    animal = scene("a", label="animal")
    nothing = scene_with([frame_at(0.0, [])])
    assert (draw_judged(full_result(), animal, 0, "") == draw_judged(full_result(), nothing, 0, "")).all()
    assert white_at(draw_judged(result(), animal, 0, ""), -9.0, -3.0)


@pytest.mark.parametrize("caption", ["", "x" * 5000, "a\nb\x1b", "深度"])
def test_any_caption_has_its_line(caption: str) -> None:
    assert draw_judged(result(), scene("a"), 0, caption).shape == (1000, 1280, 3)


def test_submodules_draw_too() -> None:
    """Through their layers, as in other pictures."""
    drawn: list[FrameResult] = []

    def layer(picture: Picture, view: EgoSquare, result: FrameResult) -> None:
        drawn.append(result)

    moment = full_result()
    draw_judged(moment, scene("a"), 0, "", [layer])
    assert drawn == [moment, moment]
