"""A run of training: its steps, its checkpoints, and that it goes on as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("lightning_fabric", reason="Lightning Fabric is not installed")

from tests.training.driver import DRIVER, FACTS
from toolkit.config.model import ModelConfig
from toolkit.errors import CheckFailed, InputError
from toolkit.network import Network
from toolkit.nn.losses import hungarian
from toolkit.training.clip import Clip, ClipFrame
from toolkit.training.clip_model import ClipModel
from toolkit.training.clips import Place, Share, places
from toolkit.training.config import TrainingConfig
from toolkit.training.journal import LOG_FILE
from toolkit.training.optimiser import clip_gradients, make_optimiser, rate_factor, schedule
from toolkit.training.processes import TrainingPrecision, make_fabric
from toolkit.training.run import Run, train
from toolkit.training.run_checkpoint import load_run_checkpoint, newest_checkpoint
from toolkit.weights.checkpoint import load_checkpoint
from toolkit.wiring import join

CONFIG = TrainingConfig(epochs=3, warmup_steps=4, learning_rate=1e-2)


class MadeClips:
    """Four clips of two frames."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, place: Place) -> Clip:
        random = torch.Generator().manual_seed(place.index)
        frames = tuple(
            ClipFrame(
                {"image": torch.rand(1, 3, 2, 2, generator=random), "can_bus": torch.rand(FACTS, generator=random)},
                {"gt_step": torch.rand(2, generator=random)},
            )
            for _ in range(2)
        )
        return Clip(f"clip{place.index}", frames)


def driver(**options: bool) -> ClipModel:
    torch.manual_seed(1)
    network = Network(join((DRIVER,), ModelConfig()))
    return ClipModel(network, 1, {"driver": {"broken": False, "dropout": 0.1} | options})


def run(folder: Path, model: ClipModel | None = None, *, resume: bool = False, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    start = newest_checkpoint(folder) if resume else None
    model = model or driver()
    if start is not None:
        model.network.load_weights({**model.network.weights(), **start.state_dict})
    settings = replace(Run(folder, CONFIG), **changes)  # type: ignore[arg-type]
    return train(settings, model, MadeClips(), make_fabric(TrainingPrecision.FP32, "cpu"), start)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run from the first to the last step."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


def test_every_epoch_leaves_a_checkpoint_of_the_official_layout(whole: Path) -> None:
    assert sorted(path.name for path in whole.glob("*.pth")) == ["epoch_1.pth", "epoch_2.pth", "epoch_3.pth"]
    content = torch.load(whole / "epoch_2.pth", weights_only=True)
    assert content["state_dict"].keys() == {"driver.weight", "driver.bias", "spare"}
    assert (content["meta"]["epoch"], content["meta"]["iter"]) == (2, 8)
    assert content["optimizer"]["param_groups"][0]["lr"] > 0
    assert load_checkpoint(whole / "epoch_2.pth").state_dict.keys() == content["state_dict"].keys()


def test_every_step_is_logged(whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / LOG_FILE).read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    first = lines[0]
    assert first["total"] == pytest.approx(sum(v for k, v in first["losses"].items() if "loss" in k))
    assert {"driver.frame_0_turn", "driver.frame_1_loss_step"} <= first["losses"].keys()
    assert (whole / "losses.png").stat().st_size > 1000


def test_it_learns(whole: Path) -> None:
    totals = [json.loads(line)["total"] for line in (whole / LOG_FILE).read_text().splitlines()]
    assert sum(totals[-4:]) < sum(totals[:4])


def test_what_is_frozen_stays(whole: Path) -> None:
    assert load_checkpoint(whole / "epoch_3.pth").state_dict["spare"] == 0


@pytest.mark.parametrize("steps", [4, 6], ids=["between epochs", "within an epoch"])
def test_a_run_goes_on_to_the_same_bits(whole: Path, tmp_path: Path, steps: int) -> None:
    """Weights, optimiser and log, with dropout at work."""
    assert run(tmp_path, steps=steps).name == "stopped.pth"
    run(tmp_path, driver(), resume=True)
    one, other = (load_run_checkpoint(folder / "epoch_3.pth") for folder in (whole, tmp_path))
    for key, value in one.state_dict.items():
        assert torch.equal(value, other.state_dict[key]), key
    for number, state in one.optimiser["state"].items():
        assert all(torch.equal(value, other.optimiser["state"][number][key]) for key, value in state.items())
    logs = [[json.loads(line)["total"] for line in (f / LOG_FILE).read_text().splitlines()] for f in (whole, tmp_path)]
    assert logs[0] == logs[1]


def test_a_stop_leaves_a_checkpoint(whole: Path, tmp_path: Path) -> None:
    """Of the last whole step; the run goes on from there to the same bits."""

    def told(record: object) -> None:
        if getattr(record, "step", 0) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, told=told)
    assert load_run_checkpoint(tmp_path / "stopped.pth").position.step == 7
    run(tmp_path, resume=True)
    one, other = (load_checkpoint(folder / "epoch_3.pth").state_dict for folder in (whole, tmp_path))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_loss_that_is_not_finite_stops(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"driver.frame_0_loss_step is inf in clip clip\d, step 1; .*stopped.pth"):
        run(tmp_path, driver(broken=True))
    assert load_run_checkpoint(tmp_path / "stopped.pth").position.step == 0


def test_a_matching_that_is_not_finite_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = driver()

    def forward(clip: Clip) -> dict[str, torch.Tensor]:
        hungarian(torch.full((2, 2), torch.nan))
        return {}

    monkeypatch.setattr(model, "forward", forward)
    with pytest.raises(CheckFailed, match=r"a cost of matching is not finite in clip clip\d, step 1; .*stopped.pth"):
        run(tmp_path, model)


def test_a_checkpoint_of_another_network(tmp_path: Path) -> None:
    run(tmp_path, steps=1)
    checkpoint = torch.load(tmp_path / "stopped.pth", weights_only=True)
    del checkpoint["optimizer"]["param_groups"][0]["params"][0]
    torch.save(checkpoint, tmp_path / "stopped.pth")
    with pytest.raises(InputError, match=r"stopped.pth is of another network"):
        run(tmp_path, resume=True)


def test_a_folder_without_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no checkpoint yet"):
        newest_checkpoint(tmp_path)


def test_a_file_that_is_no_checkpoint_of_a_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "epoch_1.pth")
    with pytest.raises(InputError, match="is none of a run that can go on"):
        newest_checkpoint(tmp_path)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run that was stopped after six of twelve steps, in the second of three epochs."""
    return run(tmp_path_factory.mktemp("stopped"), steps=6)


@pytest.mark.parametrize("steps", [5, 6])
def test_steps_that_were_made_already_are_told(stopped: Path, steps: int) -> None:
    """Instead of going on to the last epoch."""
    with pytest.raises(InputError, match=rf"--steps {steps} are of the whole run, .* has made 6; ask for more"):
        run(stopped.parent, resume=True, steps=steps)


def with_entry(*keys: object, value: object) -> Callable[[Any], None]:
    """A change of what a checkpoint holds: of the entry under these keys; None removes it."""

    def change(content: MutableMapping[Any, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        if value is None:
            del content[keys[-1]]
        else:
            content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_entry("random_state", value="seed"), "none of a run that can go on (random_state is none of PyTorch)"),
        (with_entry("random_state", value=torch.zeros(5056)), "random_state is none of PyTorch"),
        (with_entry("random_state", value=torch.zeros(3, dtype=torch.uint8)), "random_state is none of PyTorch"),
        (with_entry("optimizer", value=0), "optimizer holds no state"),
        (with_entry("optimizer", value={}), "optimizer holds no state"),
        (with_entry("optimizer", "param_groups", value=[0]), "is of another network"),
        (with_entry("optimizer", "state", value=[0]), "is of another network"),
        (with_entry("optimizer", "param_groups", 0, "base_rate", value=0.5), "holds another optimiser"),
        (with_entry("optimizer", "state", value={}), "damaged state of the optimiser"),
        (with_entry("optimizer", "state", 0, value=0), "is of another network"),
        (with_entry("optimizer", "state", 7, value={}), "damaged state of the optimiser"),
        (with_entry("optimizer", "state", 0, "exp_avg", value=None), "damaged state of the optimiser"),
        (with_entry("optimizer", "state", 0, "exp_avg", value=torch.zeros(7)), "damaged state of the optimiser"),
        (with_entry("optimizer", "state", 0, "step", value=torch.tensor(-1.0)), "damaged state of the optimiser"),
        (with_entry("state_dict", value=[]), "state_dict holds other than tensors"),
        (with_entry("state_dict", "driver.bias", value=0), "state_dict holds other than tensors"),
        (with_entry("state_dict", "driver.bias", value=None), "of another network: it lacks driver.bias"),
        (with_entry("position", "epoch", value=-1), "position is before the first step"),
        (with_entry("position", "epoch", value="1"), "position.epoch: expected"),
        (with_entry("position", "epoch", value=3), "at step 6, 2 clips after epoch 3, where a run of 3 epochs of 4"),
        (with_entry("position", "clips", value=5), "at step 6, 5 clips after epoch 1, where a run"),
        (with_entry("position", "step", value=7), "at step 7, 2 clips after epoch 1, where a run"),
    ],
)
def test_a_damaged_or_incomplete_checkpoint(
    stopped: Path, tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    """It is named, with what is wrong in it, before anything is trained."""
    content = torch.load(stopped, weights_only=True)
    change(content)
    torch.save(content, tmp_path / "stopped.pth")
    with pytest.raises(InputError) as refusal:
        run(tmp_path, resume=True)
    assert f"checkpoint {tmp_path / 'stopped.pth'} " in str(refusal.value)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["stopped.pth"]


@pytest.mark.parametrize(
    ("damaged", "left"),
    [
        (["epoch_3.pth"], "epoch_2.pth"),
        (["epoch_3.pth", "epoch_2.pth"], "stopped.pth"),
        (["stopped.pth"], "epoch_3.pth"),
        (["stopped.pth", "epoch_3.pth"], "epoch_2.pth"),
    ],
)
def test_a_run_goes_on_from_the_farthest_sound_checkpoint(
    whole: Path, stopped: Path, tmp_path: Path, damaged: list[str], left: str
) -> None:
    """Those that cannot be read are named."""
    for path in (*whole.glob("*.pth"), stopped):
        (tmp_path / path.name).write_bytes(path.read_bytes()[: 100 if path.name in damaged else None])
    notes: list[str] = []
    assert newest_checkpoint(tmp_path, notes.append).path.name == left
    assert len(notes) == len(damaged)
    for note, name in zip(sorted(notes), sorted(damaged), strict=True):
        assert f"checkpoint {tmp_path / name} " in note
        assert note.endswith(f"the run goes on from {left}")


def test_no_checkpoint_is_sound(tmp_path: Path) -> None:
    for name in ("epoch_1.pth", "stopped.pth"):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(InputError, match=r"stopped.pth"):
        newest_checkpoint(tmp_path)


def test_lines_of_the_log_that_are_no_steps(tmp_path: Path) -> None:
    """They are left out, of the curves as well; NaN is a number here."""
    run(tmp_path, steps=5)
    log = tmp_path / LOG_FILE
    lines = log.read_text().splitlines()
    first = json.loads(lines[0]) | {"gradient_norm": float("nan")}
    broken = ["{}", "[1]", "null", '{"step": 2, "total": 1.0}', json.dumps(first | {"losses": None}), lines[0][:40], ""]
    log.write_text("\n".join([json.dumps(first), *broken, *lines[1:]]) + "\n")
    run(tmp_path, resume=True)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == list(range(1, 13))


def test_clips_are_dealt_out() -> None:
    """To every process as many; all of them, in another order in each epoch."""
    shares = [places(10, 0, 5, Share(rank, 3), 2) for rank in range(3)]
    assert {len(share) for share in shares} == {4}
    assert {place.index for share in shares for place in share} == set(range(10))
    assert shares[0] != places(10, 1, 5, Share(0, 3), 2)
    assert shares[0] == places(10, 0, 5, Share(0, 3), 2)


def test_schedule() -> None:
    """mmcv's: a cosine by epochs, and on top of it a linear warm-up by steps."""
    config = TrainingConfig(epochs=6)
    assert schedule(0, 0, config) == pytest.approx(1 / 3)
    assert schedule(250, 0, config) == pytest.approx(2 / 3)
    assert schedule(500, 0, config) == 1
    assert schedule(10_000, 3, config) == pytest.approx(1e-3 + 0.999 / 2)
    assert schedule(10_000, 6, config) == pytest.approx(1e-3)


def test_first_step_in_closed_form() -> None:
    """Golden: p (1 - lr 0.01) - lr g' / (|g'| + 1e-8) of the clipped gradient g'."""
    parameter = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimiser = make_optimiser([("weight", parameter)], TrainingConfig())
    parameter.grad = torch.tensor([30.0, -40.0], dtype=torch.float64)
    assert float(clip_gradients([parameter], 35)) == pytest.approx(50)
    clipped = torch.tensor([30.0, -40.0], dtype=torch.float64) * 35 / (50 + 1e-6)
    torch.testing.assert_close(parameter.grad, clipped)
    expected = parameter.detach() * (1 - 2e-4 * 0.01) - 2e-4 * clipped / (clipped.abs() + 1e-8)
    optimiser.step()
    torch.testing.assert_close(parameter.detach(), expected, rtol=1e-12, atol=0)


def test_parameters_have_their_own_rates() -> None:
    factors = {"img_backbone": 0.1, "img_backbone.layer4": 0.5}
    assert rate_factor("network.img_backbone.conv1.weight", factors) == 0.1
    assert rate_factor("network.img_backbone.layer4.0.weight", factors) == 0.5
    assert rate_factor("network.img_neck.weight", factors) == 1
