"""The table of how a network drives in each precision, of evaluations that are made up."""

from __future__ import annotations

from benchmarks.driving_precisions import Judged, Variant
from toolkit.bundle import Bundle
from toolkit.evaluation.evaluation_file import Evaluation, FoundFigure, MetricFindings
from toolkit.plugin.manager import PluginManager
from toolkit.quantization.gates import Finding

DATA = "nuscenes:drive"


def evaluation(nds: float, l2: float | None) -> Evaluation:
    """With two figures, of which the second may not be known."""
    figures = (
        FoundFigure("detection/NDS", nds, "", "", "", True),
        FoundFigure("planning/L2@3s", l2, "m", "", "", False),
    )
    metrics = tuple(MetricFindings(figure.name.split("/")[0], 8, (figure,), (), (), (), ()) for figure in figures)
    return Evaluation("1", DATA, "", "onnxruntime", "fp32", (), 8, (), metrics)


def test_a_row_for_each_bundle_that_was_evaluated() -> None:
    lost = Finding("objects", 0.2, 0.1, "8 of 10 found again")
    bundle: Bundle = None  # type: ignore[assignment]  # only its evaluation is shown
    judged = Judged(
        [
            Variant("FP32", bundle),
            Variant("INT8", bundle, "all 7", (lost,)),
            Variant("FP8", bundle, "all 7", (Finding("plan", 0.01, 0.1, "0.01 m"),)),
        ],
        {(DATA, "FP32"): evaluation(0.5, 1.25), (DATA, "INT8"): evaluation(0.48, None)},
    )
    lines = judged.tables([DATA, "nuscenes:other"], PluginManager.load()).splitlines()
    assert lines[0] == f"| {DATA} | layers | NDS | plan L2 at 3 s, m | metrics' bounds |"
    assert lines[2:4] == [
        "| FP32 |  | 0.5 | 1.25 |  |",
        "| INT8 | all 7 | 0.48 |  | fails: detection/NDS 2.00 |",
    ]
    assert lines[-2:] == [
        "| INT8 | objects: 8 of 10 found again (bound 0.1) | fails: objects 2.00 |",
        "| FP8 | plan: 0.01 m (bound 0.1) | holds |",
    ]
    assert len(lines) == 9
