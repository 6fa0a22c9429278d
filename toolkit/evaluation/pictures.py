"""All pictures of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.data.ground_truth import GroundTruth
from toolkit.evaluation.evaluation_file import PLOTS, WORST, Evaluation
from toolkit.evaluation.plots import write_plots
from toolkit.evaluation.results_set import ResultsSet
from toolkit.evaluation.worst import draw_worst
from toolkit.specs import Submodule


def draw_evaluation(
    evaluation: Evaluation, truth: GroundTruth, results: ResultsSet, submodules: Sequence[Submodule], folder: Path
) -> None:
    """Write plots, and pictures of the worst frames as they were judged, into two new folders beside metrics.json.

    Raises InputError if that is not possible, or a result cannot be read.
    """
    layers = [submodule.draw for submodule in submodules if submodule.draw is not None]
    for part in (PLOTS, WORST):
        (folder / part).mkdir()
    write_plots(evaluation, folder / PLOTS)
    draw_worst(evaluation, truth, results.read, folder / WORST, layers)
