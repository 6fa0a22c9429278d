"""IoU of the map, against the reference and by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from plugins.map_segmentation.evaluation import METRIC
from plugins.map_segmentation.metrics import NAMES, count_sample, map_metrics
from tests.evaluation.conftest import Arrays
from tests.evaluation.judging import figures_of, judge, result_of, verdict_on
from tests.evaluation.scenes import frame_at, scene_with
from toolkit.data.ground_truth import Gap, GroundTruth, Layers
from toolkit.runtime.results import MapResult

SAMPLES = 16


def sample(arrays: Arrays, number: int) -> list[np.ndarray]:
    return [arrays[f"s{number}.{name}"] for name in ("pred_lane", "pred_drivable", "gt_labels", "gt_masks")]


def test_figures_of_the_reference(golden_maps: Arrays) -> None:
    """The same counts; the reference divides them in FP32."""
    figures = map_metrics(*zip(*(sample(golden_maps, number) for number in range(SAMPLES)), strict=True))
    for name, value in figures.items():
        assert value == pytest.approx(float(golden_maps[f"agg.{name}_iou"]), rel=1e-7)


@pytest.mark.parametrize("number", range(SAMPLES))
def test_cells_of_the_reference(golden_maps: Arrays, number: int) -> None:
    counts = count_sample(*sample(golden_maps, number))
    for name, intersection, union in zip(NAMES, counts.intersection, counts.union, strict=True):
        assert intersection == golden_maps[f"s{number}.{name}_intersection"]
        assert union == golden_maps[f"s{number}.{name}_union"]


def scene() -> list[np.ndarray]:
    """Two dividers of four cells each, no crossing, a contour of four; the lower half is drivable."""
    masks = np.zeros((4, 4, 4), np.uint8)
    masks[0, 0], masks[1, 1], masks[2, :, 3], masks[3, 2:] = 1, 1, 1, 1
    lanes = np.zeros((3, 4, 4), bool)
    lanes[0, :2], lanes[2, :, 3] = True, True
    return [lanes, masks[3].astype(bool), np.array([0, 0, 2, 3]), masks]


def test_the_truth_is_perfect_and_what_never_occurs_is_undefined() -> None:
    figures = map_metrics(*([part] for part in scene()))
    assert math.isnan(figures.pop("crossing"))
    assert figures == dict.fromkeys(figures, 1.0)


def test_a_missed_divider_costs_its_cells() -> None:
    """Four of the eight cells of dividers; of all ten cells of lanes three are gone, as one is the contour's too."""
    lanes, *others = scene()
    lanes[0, 1] = False
    figures = map_metrics([lanes], *([part] for part in others))
    assert figures["divider"] == 0.5
    assert figures["lanes"] == 7 / 10


def test_samples_add_up() -> None:
    parts = scene()
    one, both = count_sample(*parts), map_metrics(*([part, part] for part in parts))
    assert (one + one).figures()["drivable"] == both["drivable"] == 1.0


def test_no_samples() -> None:
    assert all(math.isnan(value) for value in map_metrics([], [], [], []).values())


def test_the_metric_gives_the_figures_of_the_reference(golden_maps: Arrays) -> None:
    """In percent."""
    figures = figures_of(verdict_on(METRIC, [count_sample(*sample(golden_maps, number)) for number in range(SAMPLES)]))
    assert figures == pytest.approx({f"IoU-{name}": 100 * float(golden_maps[f"agg.{name}_iou"]) for name in NAMES})


def seen(classes: tuple[str, ...] = ("crossing", "divider", "boundary")) -> MapResult:
    """The right half is drivable, and a crossing lies across the road ahead."""
    lanes, drivable = np.zeros((3, 50, 50), bool), np.zeros((50, 50), bool)
    lanes[0, 30], drivable[:, 25:] = True, True
    return MapResult(classes, lanes, lanes.astype(np.float32), drivable, (), (-51.2, 51.2), (-51.2, 51.2))


def test_maps_are_read_once_for_each_place_and_classes_go_by_their_names() -> None:
    """Everything is drivable, of which the model sees half; there are no lines."""
    shapely = pytest.importorskip("shapely", reason="nuscenes-devkit, which brings shapely, is not installed")
    asked = []

    def layers(location: str, names: Sequence[str]) -> Layers | None:
        asked.append(location)
        everywhere = np.array([shapely.box(-200, -200, 200, 200)], np.object_)
        nothing = np.array([], np.object_)
        return {name: everywhere if name == "drivable_area" else nothing for name in names}

    scene = scene_with([frame_at(0.5 * i, []) for i in range(3)], "here")
    results = [result_of(frame.token, map=seen()) for frame in scene.frames]
    verdict, gaps = judge(METRIC, GroundTruth((scene,), layers), results)
    figures = figures_of(verdict)
    assert (gaps, asked) == ([], ["here"])
    assert figures["IoU-drivable"] == pytest.approx(50)
    assert figures["IoU-crossing"] == 0
    assert math.isnan(figures["IoU-divider"])
    assert verdict.rankings[0].badness == pytest.approx({frame.token: 50 for frame in scene.frames})


def test_what_cannot_be_judged() -> None:
    """A place without a map, and a model with other classes."""
    pytest.importorskip("shapely", reason="nuscenes-devkit, which brings shapely, is not installed")
    scene = scene_with([frame_at(0, []), frame_at(1, [])], "here")
    results = [result_of("frame0", map=seen()), result_of("frame1", map=seen(("divider", "crossing", "kerb")))]
    assert judge(METRIC, GroundTruth((scene,), lambda location, names: None), results)[1] == [
        Gap("frame0", "the map of here"),
        Gap("frame1", "a square map of ±51.2 m with dividers, crossings and boundaries"),
    ]
