"""A killed command leaves nothing that looks like a result, and running it again succeeds."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.corpus.case import Sample
from tests.corpus.sample import make_frame
from tests.toolkit.conftest import ODOMETRY, PLANNER
from toolkit.config.model import ModelConfig
from toolkit.data.frame_folder import write_frame
from toolkit.network import Network
from toolkit.wiring import join

pytestmark = pytest.mark.converts

REPOSITORY = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from toolkit.cli.main import main; main()")
OFFICIAL = ("image_encoder", "bev_encoder", "tracking", "map_segmentation", "motion", "occupancy", "planning")
TINY = """
from tests.toolkit.conftest import ODOMETRY, PLANNER
from toolkit.hookspecs import hookimpl

@hookimpl
def uniad_submodules():
    return ODOMETRY, PLANNER
"""


def start(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*COMMAND, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL)


def kill_when_it_has_written(file: str, arguments: list[str], folder: Path) -> None:
    """Kill the command as soon as a file of this name is in its temporary folder."""
    process = start(arguments, folder)
    deadline = time.monotonic() + 60
    while not list(folder.glob(f".out.*.partial/{file}")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()


def results(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(("out", ".out")))


@pytest.fixture
def tiny_conversion(tmp_path: Path) -> list[str]:
    """Arguments that convert the tiny network of the toolkit's tests."""
    weights = Network(join((ODOMETRY, PLANNER), ModelConfig())).weights()
    torch.save({"state_dict": weights}, tmp_path / "tiny.pth")
    (tmp_path / "tiny.py").write_text(TINY)
    without_official = [f"--disable-plugin=plugins.{name}.plugin" for name in OFFICIAL]
    return ["convert", "tiny.pth", "-o", "out", "--plugin", "tiny.py", *without_official]


def test_convert(tiny_conversion: list[str], tmp_path: Path) -> None:
    kill_when_it_has_written("model.onnx", tiny_conversion, tmp_path)
    [remains] = results(tmp_path)
    assert remains.startswith(".out.")
    assert start(tiny_conversion, tmp_path).wait() == 0
    assert results(tmp_path) == ["out"]
    assert start(["verify", "out", *tiny_conversion[4:]], tmp_path).wait() == 0


def test_run(sample: Sample, tmp_path: Path) -> None:
    for number in range(10):
        write_frame(make_frame(number), tmp_path / "frames")
    arguments = ["run", str(sample.bundle), "frames", "-o", "out"]
    kill_when_it_has_written("000.json", arguments, tmp_path)
    [remains] = results(tmp_path)
    assert remains.startswith(".out.")
    assert start([*arguments, "--no-pictures"], tmp_path).wait() == 0
    assert results(tmp_path) == ["out"]
    assert len(list((tmp_path / "out").glob("*.json"))) == 10
