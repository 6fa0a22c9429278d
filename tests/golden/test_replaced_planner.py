"""A third party's planner, from the file of the documentation, converts and runs in place of the built-in one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import load_script
from toolkit.cli.main import run
from toolkit.storage.files import sha256_file
from toolkit.synthetic.dataset import DriveSettings
from toolkit.synthetic.frames import write_drive

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[2] / "configs" / "uniad_tiny_compact.toml"
PLANNER = Path(__file__).parents[2] / "docs" / "examples" / "straight_planner.py"
DRIVE = DriveSettings(scenes=2, keyframes=1)


@pytest.fixture(scope="module")
def bundle(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planner")
    script = load_script(golden / "pseudo_checkpoint.py")
    torch.save({"state_dict": script.make_state_dict(str(golden / "state_dict_manifest.json"), "A")}, folder / "a.pth")
    anchors = golden / "motion_anchor_infos_mode6.pkl"
    arguments = ["convert", folder / "a.pth", "--motion-anchors", anchors, "-o", folder / "b", "--plugin", PLANNER]
    assert run([str(argument) for argument in (*arguments, "--config", CONFIG)]) == 0
    return folder / "b"


def test_bundle_names_the_plugin_file(bundle: Path) -> None:
    records = {record["name"]: record for record in json.loads((bundle / "bundle.json").read_text())["submodules"]}
    assert "planning" not in records
    assert records["straight_planner"]["plugin"] == PLANNER.name
    assert len(records["straight_planner"]["plugin_sha256"]) == 64


def test_bundle_names_the_config(bundle: Path) -> None:
    values = json.loads((bundle / "bundle.json").read_text())
    assert values["provenance"]["config"] == CONFIG.name
    assert values["provenance"]["config_sha256"] == sha256_file(CONFIG)
    assert values["config"]["tracking"]["agent_capacity"] == 48


def test_both_sessions_run_it(bundle: Path, tmp_path: Path) -> None:
    write_drive(tmp_path / "dataroot", tmp_path / "frames", DRIVE)
    plans = []
    for session in ("torch", "onnxruntime"):
        arguments = ["run", bundle, tmp_path / "frames", "-o", tmp_path / session, "--session", session]
        assert run(["--plugin", str(PLANNER), *(str(argument) for argument in arguments)]) == 0
        files = sorted((tmp_path / session).glob("*.json"))
        plans.append([json.loads(file.read_text())["plan"]["points"] for file in files])
    np.testing.assert_allclose(plans[0], plans[1], atol=1e-3)


def test_torch_session_asks_for_the_file(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_drive(tmp_path / "dataroot", tmp_path / "frames", DRIVE)
    arguments = ["run", bundle, tmp_path / "frames", "-o", tmp_path / "out", "--session", "torch"]
    assert run([str(argument) for argument in arguments]) == 2
    assert "--plugin straight_planner.py" in capsys.readouterr().err
