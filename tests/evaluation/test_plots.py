"""Plots of an evaluation: a PNG each, whatever their series hold and are called."""

from __future__ import annotations

import io
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.evaluations import evaluation
from toolkit.evaluation.metric import Plot, PlotKind, Series
from toolkit.evaluation.plots import SIZE, draw_plot, write_plots

BLUE = (0, 114, 178)
"""The colour of the first series."""
HOSTILE = ("$\\frac{", "_hidden", "a\nb\x1b[31m", "‮gnitirw", "深度 \ud800", "x" * 5000, "", "%s{}")


def drawn(series: Sequence[Series], kind: PlotKind = PlotKind.LINES, text: str = "text") -> np.ndarray:
    """The picture [720, 1280, 3]."""
    picture = Image.open(io.BytesIO(draw_plot(Plot("p", text, text, text, series, kind))))
    assert picture.size == SIZE
    return np.asarray(picture.convert("RGB"))


def columns_of_blue(picture: np.ndarray) -> np.ndarray:
    """For each column of pixels whether the first series is in it."""
    return np.asarray((picture == BLUE).all(-1).any(0))


def test_each_plot_is_a_file(tmp_path: Path) -> None:
    """Named after its metric and itself."""
    paths = write_plots(evaluation(), tmp_path)
    assert [path.name for path in paths] == ["planning-error.png", "planning-shares.png"]
    assert all(Image.open(path).size == (1280, 720) for path in paths)


def test_nothing_remains_of_a_plot() -> None:
    """The state of matplotlib that all of a program shares is as before."""
    from matplotlib import rcParams

    before = dict(rcParams)
    drawn([Series("one", [1.0, 2.0], [1.0, 2.0])])
    assert dict(rcParams) == before
    assert not getattr(sys.modules.get("matplotlib.pyplot"), "get_fignums", list)()


@pytest.mark.parametrize("nothing", [math.nan, None])
def test_where_there_is_no_number_is_a_gap(nothing: float | None) -> None:
    """In the middle third of the line, and in place of a bar."""
    x = np.linspace(0, 3, 31).tolist()
    whole = drawn([Series("one", x, [1.0] * 31)])
    gaping = drawn([Series("one", x, [nothing if 1 < value < 2 else 1.0 for value in x])])
    lost = np.flatnonzero(columns_of_blue(whole) & ~columns_of_blue(gaping))
    seen = np.flatnonzero(columns_of_blue(whole))
    assert len(lost) > len(seen) / 4
    assert lost.min() - seen.min() == pytest.approx(seen.max() - lost.max(), abs=8)
    bars = drawn([Series("one", ["a", "b"], [1.0, nothing])], PlotKind.BARS)
    assert columns_of_blue(bars).sum() < columns_of_blue(drawn([Series("one", ["a"], [1.0])], PlotKind.BARS)).sum()


def test_points_are_not_joined() -> None:
    series = [Series("one", [0.0, 1.0, 2.0], [1.0, 3.0, 2.0])]
    points, line = (columns_of_blue(drawn(series, kind)).sum() for kind in (PlotKind.POINTS, PlotKind.LINES))
    assert 0 < points < line / 4


@pytest.mark.parametrize("kind", PlotKind)
def test_texts_are_shown_as_they_are(kind: PlotKind) -> None:
    """No formula, no control character, no label that is kept quiet, no warning, and room for the plot remains."""
    x: Sequence[float | str] = HOSTILE if kind is PlotKind.BARS else tuple(range(len(HOSTILE)))
    series = [Series(name, x, [1.0 + number] * len(x)) for number, name in enumerate(HOSTILE)]
    with warnings.catch_warnings(action="error"):
        for text in HOSTILE:
            picture = drawn(series, kind, text)
            assert columns_of_blue(picture).sum() > 20


@pytest.mark.parametrize("kind", PlotKind)
@pytest.mark.parametrize("y", [[], [math.nan], [None], [0.0], [-1.0], [1e308], [sys.float_info.max], [5e-324]])
def test_any_numbers_have_a_plot(kind: PlotKind, y: list[float | None]) -> None:
    drawn([Series("one", [1e308] * len(y), y), Series("none", [], [])], kind)
    drawn([], kind)


def test_many_series_have_their_names_beside_the_plot() -> None:
    """All differ; the plot keeps half of the width."""
    series = [Series(f"construction_vehicle {i}", [0.0, 1.0], [float(i), i + 1.0]) for i in range(60)]
    assert np.flatnonzero(columns_of_blue(drawn(series))[:900]).max() > 600
