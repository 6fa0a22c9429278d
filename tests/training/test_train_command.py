"""`uniad-toolkit train` on a synthetic drive."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning_fabric", reason="Lightning Fabric is not installed")
pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")

from toolkit.cli.main import run
from toolkit.storage.json_file import read_json
from toolkit.synthetic.dataset import DriveSettings, synthesize
from toolkit.weights.checkpoint import load_checkpoint

PLUGIN = ["--plugin", str(Path(__file__).with_name("driver.py"))]
OFFICIAL = ("image_encoder", "bev_encoder", "tracking", "map_segmentation", "motion", "occupancy", "planning")
ALONE = [*PLUGIN, *(word for name in OFFICIAL for word in ("--disable-plugin", f"plugins.{name}.plugin"))]
TOML = """
[image]
source_width = 80
source_height = 45
[training]
stage = 1
queue_length = 2
epochs = 2
learning_rate = 0.01
warmup_steps = 2
"""
Train = Callable[..., int]


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "drive"
    list(synthesize(folder, DriveSettings(scenes=1, keyframes=5, image_scale=0.05)))
    return folder


@pytest.fixture
def arguments(drive: Path, tmp_path: Path) -> list[str]:
    """`train` of four clips, into the folder `run`."""
    config = tmp_path / "mini.toml"
    config.write_text(TOML)
    data = f"nuscenes:{drive}"
    return ["train", str(config), "--data", data, "-o", str(tmp_path / "run"), "--workers", "0", *ALONE]


def test_a_training_and_its_end(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder says what was trained; the checkpoint is one for `convert`."""
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert "every weight starts at random" in shown
    assert "epoch_2.pth" in shown
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"epoch_1.pth", "epoch_2.pth", "log.jsonl", "losses.png", "model.toml", "training.json"} <= names
    bundle = str(tmp_path / "bundle")
    assert run(["convert", str(tmp_path / "run/epoch_2.pth"), "--config", arguments[1], "-o", bundle, *ALONE]) == 0


def test_resume(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With workers it comes to the same bits; other settings are named."""
    assert run([*arguments, "--steps", "3"]) == 0
    assert (tmp_path / "run/stopped.pth").exists()
    assert run([*arguments, "--resume", "--set", "learning_rate=0.02", "--set", "seed=1"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "training.learning_rate: 0.01 -> 0.02; training.seed: 0 -> 1" in error
    assert run([*arguments, "--resume"]) == 0
    arguments[arguments.index("-o") + 1] = str(tmp_path / "whole")
    arguments[arguments.index("--workers") + 1] = "1"
    assert run(arguments) == 0
    one, other = (load_checkpoint(tmp_path / name / "epoch_2.pth").state_dict for name in ("run", "whole"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_resume_with_other_data(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other clips, another number of them, another precision and other processes are named; data may have moved."""
    assert run([*arguments, "--steps", "3"]) == 0
    settings = read_json(tmp_path / "run/training.json")
    assert (settings["clips"], settings["precision"], settings["processes"]) == (4, "fp32", 1)
    assert "precision: 'fp32' -> 'bf16'" in refused([*arguments, "--resume", "--precision", "bf16"], capsys)
    place = arguments.index("--data") + 1
    drive = Path(arguments[place].removeprefix("nuscenes:"))
    list(synthesize(tmp_path / "longer", DriveSettings(scenes=1, keyframes=6, image_scale=0.05)))
    longer = [*arguments[:place], f"nuscenes:{tmp_path / 'longer'}", *arguments[place + 1 :]]
    assert "was started with other settings: clips: 4 -> 5. Give" in refused([*longer, "--resume"], capsys)
    list(synthesize(tmp_path / "other", DriveSettings(scenes=1, keyframes=5, image_scale=0.05, seed=1)))
    other = [*arguments[:place], f"nuscenes:{tmp_path / 'other'}", *arguments[place + 1 :]]
    assert "was started with as many clips, but of other frames" in refused([*other, "--resume"], capsys)
    (tmp_path / "moved").symlink_to(drive, target_is_directory=True)
    moved = [*arguments[:place], f"nuscenes:{tmp_path / 'moved'}", *arguments[place + 1 :]]
    assert run([*moved, "--resume"]) == 0
    stored = tmp_path / "run/training.json"
    stored.write_text(stored.read_text().replace('"processes": 1', '"processes": 2'))
    assert "processes: 2 -> 1" in refused([*arguments, "--resume"], capsys)


def test_two_processes_are_one_with_twice_the_clips(arguments: list[str], tmp_path: Path) -> None:
    """Losses are averaged over clips, whoever computes them."""
    arguments += ["--set", "distort_pictures=False", "--set", "dropout=0", "--set", "epochs=1", "--device", "cpu"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(sys.executable).with_name("uniad-toolkit")
    two = [*torchrun, "--no-python", str(script), *arguments, "--set", "accumulate=1"]
    quiet = subprocess.run(two, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert quiet.returncode == 0, quiet.stderr
    assert "deprecated" not in quiet.stderr
    arguments[arguments.index("-o") + 1] = str(tmp_path / "alone")
    assert run([*arguments, "--set", "accumulate=2"]) == 0
    one, other = (load_checkpoint(tmp_path / name / "epoch_1.pth").state_dict for name in ("run", "alone"))
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=1e-5, atol=1e-6)


def test_kept_pictures_train_the_same(
    arguments: list[str], drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the same bits, also where only some are kept; the folder is none of the data's."""
    assert run([*arguments, "--steps", "2"]) == 0
    expected = load_checkpoint(tmp_path / "run/stopped.pth").state_dict
    for share in ("64", "0.0001"):  # the latter is 9 of 30 pictures of 80x45
        cached = ["--cache", str(tmp_path / "cache"), "--cache-gb", share]
        assert run([*arguments, "--steps", "2", "--force", *cached]) == 0
        found = load_checkpoint(tmp_path / "run/stopped.pth").state_dict
        assert all(torch.equal(value, found[key]) for key, value in expected.items())
    assert "9 of 30 pictures fit into 0.0001 GB" in " ".join(capsys.readouterr().out.split())
    for place in (drive / "cache", tmp_path / "run/cache"):
        assert run([*arguments, "--force", "--cache", str(place)]) == 2
        assert not place.exists()
    assert run([*arguments, "--resume", "--cache", str(tmp_path / "run")]) == 2
    assert run([*arguments, "--force", "--cache", str(tmp_path / "cache"), "--cache-gb", "inf"]) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_with_workers(arguments: list[str], tmp_path: Path, number: signal.Signals) -> None:
    """Leaves a checkpoint, and no process behind; it does not wait for clips that nobody will take."""
    arguments[arguments.index("--workers") + 1] = "1"
    script = Path(sys.executable).with_name("uniad-toolkit")
    command = [str(script), *arguments, "--set", "epochs=1000"]
    running = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL)
    log = tmp_path / "run/log.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") > 2):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    running.send_signal(number)
    assert running.wait(20) == 128 + number
    assert (tmp_path / "run/stopped.pth").exists()


def test_sixteen_bits(arguments: list[str], tmp_path: Path) -> None:
    """Weights stay FP32."""
    assert run([*arguments, "--precision", "bf16", "--steps", "2"]) == 0
    assert load_checkpoint(tmp_path / "run/stopped.pth").state_dict["driver.weight"].dtype is torch.float32


def test_it_is_judged(arguments: list[str], tmp_path: Path) -> None:
    """After every so many epochs and at the end; training goes on as without."""
    data = arguments[arguments.index("--data") + 1]
    assert run([*arguments, "--evaluate", data, "--evaluate-every", "1"]) == 0
    errors = []
    for epoch in (1, 2):
        evaluation = read_json(tmp_path / f"run/evaluation_epoch_{epoch}/metrics.json")
        assert (evaluation["frames"], evaluation["session"]) == (5, "torch")
        errors.append(evaluation["metrics"][0]["figures"][0]["value"])
    assert errors[1] < errors[0]
    arguments[arguments.index("-o") + 1] = str(tmp_path / "unjudged")
    assert run(arguments) == 0
    one, other = (load_checkpoint(tmp_path / name / "epoch_2.pth").state_dict for name in ("run", "unjudged"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_every_epoch_of_nothing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--evaluate-every needs --evaluate" in refused([*arguments, "--evaluate-every", "1"], capsys)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(arguments) == 2
    return " ".join(capsys.readouterr().err.split())


def test_too_few_frames(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    error = refused([*arguments, "--set", "queue_length=6"], capsys)
    assert "there is no clip to train on; a clip has 6 key frames in a row with ground truth" in error
    assert not Path(arguments[arguments.index("-o") + 1]).exists()


def test_frames_without_ground_truth(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "frames").mkdir()
    arguments[arguments.index("--data") + 1] = str(tmp_path / "frames")
    assert "holds no ground truth" in refused(arguments, capsys)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", "--set 'epochs' is not key=value"),
        ("epoch=1", "there is no setting 'epoch'; known: accumulate, broken, distort_pictures, dropout,"),
        ("epochs=many", "--set 'epochs=many': "),
        ("epochs=0", "--set 'epochs=0': "),
        ("broken=5", "--set 'broken=5' must be True or False"),
        ("dropout=2", "--set 'dropout=2' must be a number from 0 to 1"),
        ("learning_rate=1e300", "--set 'learning_rate=1e300': "),
        ("stage=2", "--set 'stage=2': give --stage"),
    ],
)
def test_settings_that_cannot_be(
    arguments: list[str], setting: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused([*arguments, "--set", setting], capsys)


def test_a_stage_that_the_config_is_not_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "is of stage 1, but --stage is 2" in refused([*arguments, "--stage", "2"], capsys)


def test_a_checkpoint_of_other_sizes(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {"driver.weight": torch.zeros(3, 19)}}, tmp_path / "start.pth")
    error = refused([*arguments, "--init", str(tmp_path / "start.pth")], capsys)
    assert "driver.weight has shape [3, 19], but the config makes it [2, 19]" in error


def test_a_checkpoint_of_another_network(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {"other.weight": torch.zeros(3)}}, tmp_path / "start.pth")
    assert "holds no entry of the network" in refused([*arguments, "--init", str(tmp_path / "start.pth")], capsys)


def test_part_of_a_checkpoint(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it lacks starts at random, and is said."""
    torch.save({"state_dict": {"driver.weight": torch.zeros(2, 19), "extra": torch.zeros(1)}}, tmp_path / "start.pth")
    assert run([*arguments, "--init", str(tmp_path / "start.pth"), "--steps", "1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 of 3 entries are those of" in shown
    assert "2 entries of driver start at random, such as 'driver.bias'" in shown
    assert "1 of its entries are not used, such as 'extra'" in shown


def test_nothing_to_resume(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "is the folder of no run that could be resumed" in refused([*arguments, "--resume"], capsys)


def test_an_output_that_is_there(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/precious").touch()
    assert "already exists" in refused(arguments, capsys)
    assert "--force keeps it" in refused([*arguments, "--force"], capsys)
