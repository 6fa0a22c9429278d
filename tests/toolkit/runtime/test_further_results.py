"""Networks of other parts than the toolkit's own: what `run`, `visualize` and `report` make of their results."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.toolkit.toy_bundle import write_toy_bundle, write_toy_frames
from toolkit.bundle import Bundle
from toolkit.cli.main import run
from toolkit.plugin.manager import PluginManager
from toolkit.report.run import describe_run

pytestmark = pytest.mark.thorough

HEAD = """
import torch
from toolkit.hookspecs import hookimpl
from toolkit.specs import Submodule, TensorSpec

class Heat(torch.nn.Module):
    def forward(self, bev):
        return bev.mean(1).view(10, 10)

def draw(picture, view, result):
    if "heat" in result.further:
        picture[:9, :9] = 255, 0, 0

@hookimpl
def uniad_submodules():
    heat = TensorSpec("heat", ("bev_height", "bev_width"), "float32", "how warm it is")
    return (Submodule("heater", (), ("bev",), (heat,), lambda config: Heat(), results=("heat",), draw=draw),)
"""
TRACKING = ("tracking", "motion", "occupancy", "planning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin with a head of its own, a bundle with it and without tracking, and its results."""
    folder = tmp_path_factory.mktemp("heat")
    (folder / "heat.py").write_text(HEAD)
    plugins = PluginManager.load([folder / "heat.py"])
    write_toy_bundle(folder / "bundle", plugins, without=TRACKING)
    write_toy_frames(folder / "frames")
    assert command(folder, "run", "bundle", "frames", "-o", "results", "--session", "torch") == 0
    return folder


def command(folder: Path, name: str, *arguments: str) -> int:
    """The exit status of a command; arguments that name files are inside the folder."""
    inside = [str(folder / each) if not each.startswith("-") and each != "torch" else each for each in arguments]
    return run([name, *inside, "--plugin", str(folder / "heat.py")])


def test_a_network_without_tracking_runs(folder: Path) -> None:
    """As one of a checkpoint without entries for it: there are no boxes."""
    values = json.loads((folder / "results/frame0.json").read_text())
    assert (values["boxes"], values["plan"]) == ([], None)
    assert values["map"] is not None


def test_a_result_that_nobody_interprets_reaches_the_disk(folder: Path) -> None:
    """The JSON names it, the npz holds it."""
    assert json.loads((folder / "results/frame0.json").read_text())["further"] == ["heat"]
    with np.load(folder / "results/frame0.npz") as grids:
        assert grids["heat"].shape == (10, 10)
        assert grids["heat"].any()


def test_visualize_names_it_and_lets_its_submodule_draw(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(folder, "visualize", "results", "-o", "pictures") == 0
    assert "results that no submodule interprets: heat" in capsys.readouterr().out
    in_results, in_pictures = (cv2.imread(str(folder / f"{where}/frame0.png")) for where in ("results", "pictures"))
    assert in_results is not None
    np.testing.assert_array_equal(in_results, in_pictures)
    red = (in_results[..., ::-1] == (255, 0, 0)).all(-1)
    assert red.sum() == 2 * 8 * 8, "in the corner of both views, whose outermost line is their frame"


def test_report_names_it(folder: Path) -> None:
    facts = describe_run(Bundle.read(folder / "bundle"), folder / "results").facts
    assert facts["results without interpretation"] == "heat"
