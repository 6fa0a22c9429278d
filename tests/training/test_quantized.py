"""Training with the rounding of a quantized bundle, and quantizing what came of it at the same places."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning_fabric", reason="Lightning Fabric is not installed")
pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")

from tests.training.test_train_command import OFFICIAL, TOML
from toolkit.bundle import Bundle
from toolkit.cli.main import run
from toolkit.errors import InputError
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.quantization.record import QuantizationRecord
from toolkit.storage.json_file import read_json
from toolkit.synthetic.dataset import DriveSettings, synthesize
from toolkit.training.quantized import places_in, read_quantized
from toolkit.weights.checkpoint import load_checkpoint
from toolkit.wiring import join

PLUGIN = ["--plugin", str(Path(__file__).with_name("wide_driver.py"))]
WIDE = [*PLUGIN, *(word for name in OFFICIAL for word in ("--disable-plugin", f"plugins.{name}.plugin"))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a drive, a config, a checkpoint after two steps, its bundle, and that quantized."""
    folder = tmp_path_factory.mktemp("quantized")
    list(synthesize(folder / "drive", DriveSettings(scenes=2, keyframes=5, image_scale=0.05)))
    list(synthesize(folder / "one", DriveSettings(scenes=1, keyframes=1, image_scale=0.05)))
    (folder / "mini.toml").write_text(TOML)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train = ["train", "mini.toml", "--data", "nuscenes:drive", "--workers", "0", *WIDE]
        assert run([*train, "-o", "run", "--steps", "2"]) == 0
        assert run(["convert", "run/stopped.pth", "--config", "mini.toml", "-o", "bundle", *WIDE]) == 0
        assert (
            run(["quantize", "bundle", "--calibration", "nuscenes:drive", "-o", "int8", "--threads", "1", *WIDE]) == 0
        )
    return folder


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy to work in."""
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "copy"))
    return tmp_path / "copy"


def train(*more: str) -> list[str]:
    return ["train", "mini.toml", "--data", "nuscenes:drive", "--workers", "0", "-o", "tuned", *WIDE, *more]


def text(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


@pytest.mark.converts
def test_the_whole_story(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fine-tuned, converted and quantized again: the same layers, by the ranges that it was trained with."""
    assert (
        run(train("--quantize", "int8", "--init", "run/stopped.pth", "--steps", "3", "--evaluate", "nuscenes:drive"))
        == 0
    )
    shown = text(capsys)
    assert "2 of the 2 layers that int8 quantizes are rounded to int8" in shown
    assert "its ranges may not fit" not in shown
    before, after = (load_checkpoint(Path(name)).state_dict for name in ("run/stopped.pth", "tuned/stopped.pth"))
    assert before.keys() == after.keys()
    assert not torch.equal(before["eyes.weight"], after["eyes.weight"])
    assert run(["convert", "tuned/stopped.pth", "--config", "mini.toml", "-o", "again", *WIDE]) == 0
    like = ["quantize", "again", "--like", "int8", "--reference", "bundle", "--drive", "nuscenes:drive", *WIDE]
    assert run([*like, "-o", "again8", "--threads", "1"]) == 0
    first, second = (QuantizationRecord.read(Bundle.read(Path(name))) for name in ("int8", "again8"))
    assert first is not None
    assert second is not None
    assert (second.layers, second.source) == (first.layers, first.source)
    assert read_json(Path("again8/calibration.json")) == read_json(Path("int8/calibration.json"))


def test_the_rounding_is_trained_with(here: Path) -> None:
    """From the bundle's weights, without --init; the first loss is another than that without rounding."""
    losses = []
    for options in (["--quantize", "int8"], ["--init", "run/stopped.pth", "--force"]):
        assert run(train(*options, "--steps", "1", "--set", "dropout=0", "--set", "distort_pictures=False")) == 0
        losses.append(first_loss(here / "tuned/log.jsonl"))
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def first_loss(path: Path) -> float:
    return float(json.loads(path.read_text().splitlines()[0])["total"])


def test_other_weights_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They may be trained from, but the ranges are not theirs."""
    state = load_checkpoint(here / "run/stopped.pth").state_dict
    torch.save({"state_dict": {**state, "eyes.weight": state["eyes.weight"] * 2}, "meta": {}}, here / "other.pth")
    assert run(train("--quantize", "int8", "--init", "other.pth", "--steps", "1")) == 0
    assert "1 entries of the network, such as 'eyes.weight', are not those that the bundle was" in text(capsys)


def test_a_run_goes_on_with_its_rounding(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(train("--quantize", "int8", "--steps", "1")) == 0
    assert run(train("--resume", "--steps", "2")) == 2
    assert "was started with other settings: quantized: '" in text(capsys)
    assert run(train("--quantize", "int8", "--resume", "--steps", "2")) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quantize", "bundle"], "bundle bundle is not quantized; give --quantize one that `quantize` has written"),
        (["--quantize", "drive"], "drive is not a bundle"),
        (["--quantize", "missing"], "missing is not a bundle"),
        (["--quantize", "int8", "--clip", "x.npz", "--losses", "y.json"], "--clip and --losses go together, without"),
    ],
)
def test_bundles_that_do_not_serve(
    here: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run(train(*options)) == 2
    assert message in text(capsys)
    assert not (here / "tuned").exists()


def test_a_damaged_bundle(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (here / "int8/weights.safetensors").open("r+b") as file:
        file.truncate(100)
    assert run(train("--quantize", "int8")) == 2
    assert "weights.safetensors" in text(capsys)


def test_a_bundle_of_another_network(made: Path) -> None:
    """Entries that it lacks, or has in other sizes, are named; so is a stage without any layer of it."""
    plugins = PluginManager.load([Path(PLUGIN[1])], disabled=[f"plugins.{name}.plugin" for name in OFFICIAL])
    bundle = read_quantized(made / "int8", plugins)
    network = Network(join(plugins.submodules(), bundle.bundle.config))
    assert len(places_in(bundle, network, 1).found) == 2
    weights = dict(bundle.weights)
    with pytest.raises(InputError, match=r"its 'mind\.weight' has shape \[2\], and not \[32, 50\]"):
        places_in(replace(bundle, weights={**weights, "mind.weight": torch.zeros(2)}), network, 1)
    with pytest.raises(InputError, match=r"it has no 'mind\.weight'"):
        places_in(replace(bundle, weights={key: weights[key] for key in weights if key != "mind.weight"}), network, 1)
    none = replace(bundle.places, found=(), left={"a": "no module of the network has its name"})
    with pytest.raises(InputError, match="no layer that it quantizes is trained in stage 1, such as 'a': no module"):
        places_in(replace(bundle, places=none), network, 1)


def test_a_quantization_that_was_edited(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No layer at all, or other ranges."""
    like = ["quantize", "bundle", "-o", "again8", "--like", "int8", "--drive", "nuscenes:drive", *WIDE]
    record = here / "int8/quantization.json"
    whole = record.read_text()
    record.write_text(json.dumps(json.loads(whole) | {"layers": []}))
    assert run(like) == 2
    assert "$.layers: is empty" in text(capsys)
    record.write_text(whole)
    ranges = here / "int8/calibration.json"
    ranges.write_text(ranges.read_text() + " ")
    assert run(like) == 2
    assert "int8/calibration.json is not the file that `quantize` wrote" in text(capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --calibration with the frames to find ranges on, or --like with a quantized bundle"),
        (["--like", "int8"], "--like has its ranges already: give --drive"),
        (["--like", "int8", "--drive", "nuscenes:drive", "--cache", "c.json"], "--like has its ranges already"),
        (
            ["--like", "int8", "--drive", "nuscenes:drive", "--mode", "fp8"],
            "--like int8 is in int8 by mse; leave --mode",
        ),
        (["--calibration", "nuscenes:drive", "--cache", "again8/c.json"], "again8/c.json lies inside again8, another"),
        (["--calibration", "nuscenes:drive", "--drive", "nuscenes:one"], "has one frame, after which no state"),
        (["--like", "bundle", "--drive", "nuscenes:drive"], "bundle bundle is not quantized; give --like one that"),
        (
            ["--like", "int8", "--drive", "nuscenes:drive", "--reference", "int8"],
            "bundle int8 is quantized; give --ref",
        ),
    ],
)
def test_quantizations_that_cannot_be_repeated(
    here: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run(["quantize", "bundle", "-o", "again8", *options, *WIDE]) == 2
    assert message in text(capsys)
    assert not (here / "again8").exists()
