"""How well the bundle drives: figures, plots and the worst frames of an evaluation."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

from toolkit.bundle import Bundle
from toolkit.errors import InputError
from toolkit.evaluation.evaluation_file import WORST, MetricFindings, frame_file, read_evaluation
from toolkit.evaluation.figure_rows import quantity_rows
from toolkit.evaluation.plots import SIZE, draw_plot
from toolkit.evaluation.worst import PICTURES, caption_of
from toolkit.report.contents import Driving, JudgedTask, PagePicture, Table
from toolkit.report.pictures import page_picture

_COLUMNS = ("figure", "value", "unit", "protocol", "reduction")


def describe_evaluation(bundle: Bundle, path: Path) -> Driving:
    """What `evaluate` wrote: its folder, or metrics.json. Raises InputError if it is of another bundle, or damaged."""
    evaluation = read_evaluation(path)
    if evaluation.bundle != bundle.identity:
        raise InputError(f"{path} is about another bundle than {bundle.path}; evaluate that, or leave it out")
    folder = (path if path.is_dir() else path.parent) / WORST
    return Driving(
        facts={
            "session": ", ".join((evaluation.session, evaluation.precision, *evaluation.refinements)),
            "decoder": evaluation.decoder,
            "data": evaluation.data,
            "frames": str(evaluation.frames),
            "judged by": evaluation.toolkit,
        },
        tasks=tuple(_task(metric, folder) for metric in evaluation.metrics),
        warnings=tuple(f"evaluation: {gap}" for gap in evaluation.missing),
    )


def _task(metric: MetricFindings, folder: Path) -> JudgedTask:
    rows = tuple((row.name, row.value.replace("  ", ", "), row.unit, *row.rules) for row in quantity_rows(metric))
    return JudgedTask(
        name=metric.name,
        figures=Table(f"Judged in {metric.frames} frames", _COLUMNS, rows),
        plots=tuple(_plots(metric)),
        worst=tuple(_worst(metric, folder)),
        notes=(*metric.notes, *map(str, metric.gaps)),
    )


def _plots(metric: MetricFindings) -> Iterator[PagePicture]:
    """Drawn of their numbers, so that metrics.json is enough."""
    for plot in metric.plots:
        uri = "data:image/png;base64," + base64.b64encode(draw_plot(plot)).decode("ascii")
        yield PagePicture(plot.name, f"{metric.name}: {plot.title}", uri, *SIZE)


def _worst(metric: MetricFindings, folder: Path) -> Iterator[PagePicture]:
    """The pictures that lie beside metrics.json."""
    for ranking in metric.worst:
        for place, frame in enumerate(ranking.frames[:PICTURES], 1):
            path = folder / frame_file(metric.name, ranking.name, place, frame.token)
            if path.is_file():
                yield page_picture(path, frame.token, caption_of(ranking, frame, place), "evaluate again")
