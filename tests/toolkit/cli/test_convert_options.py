"""Before a training, `pseudo-weights` stands in for it; `convert --dry-run` says whether a conversion would begin."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus.sample import CONFIG
from toolkit.cli.main import run
from toolkit.config.file import to_toml

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration, and stand-ins for its weights and anchors."""
    folder = tmp_path_factory.mktemp("trial")
    (folder / "model.toml").write_text(to_toml(CONFIG))
    assert run(["pseudo-weights", "--config", str(folder / "model.toml"), "-o", str(folder / "out")]) == 0
    return folder


def dry_run(trial: Path, *options: str) -> int:
    checkpoint, bundle = str(trial / "out/checkpoint.pth"), str(trial / "bundle")
    status = run(["convert", checkpoint, "-o", bundle, "--dry-run", *options])
    assert not (trial / "bundle").exists()
    return status


def test_a_dry_run_checks_all_and_writes_nothing(trial: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fitting = ("--config", str(trial / "model.toml"), "--motion-anchors", str(trial / "out/motion_anchors.npy"))
    assert dry_run(trial, *fitting) == 0
    out = capsys.readouterr().out
    assert "entries make image_encoder, bev_encoder, tracking" in out
    assert "nothing was written" in out
    assert "build the network" in out
    assert dry_run(trial, *fitting, "--quiet") == 0
    assert "build the network" not in capsys.readouterr().out


def test_a_dry_run_names_what_does_not_fit(trial: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dry_run(trial) == 2
    assert "the configuration is not the checkpoint's: " in capsys.readouterr().err
    assert dry_run(trial, "--config", str(trial / "model.toml")) == 2
    assert "which no checkpoint holds; give --motion-anchors FILE" in capsys.readouterr().err


def test_weights_for_another_seed_are_others(trial: Path, tmp_path: Path) -> None:
    options = ["--config", str(trial / "model.toml"), "-o", str(tmp_path / "out"), "--seed", "1"]
    assert run(["pseudo-weights", *options]) == 0
    one, other = (folder / "out/checkpoint.pth" for folder in (trial, tmp_path))
    assert one.read_bytes() != other.read_bytes()


def test_a_precision_is_that_of_an_engine(trial: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dry_run(trial, "--precision", "fp16") == 2
    assert "--precision fp16 is of no use without --build; a bundle is in FP32" in capsys.readouterr().err
