"""`init-stage1`: BEVFormer-tiny weights become those that the training of stage 1 starts from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from toolkit.cli.main import run
from toolkit.config.model import ModelConfig
from toolkit.errors import InputError
from toolkit.weights.checkpoint import load_checkpoint
from toolkit.weights.stage1 import stage1_weights, write_weights

QUERIES = "pts_bbox_head.query_embedding.weight"
REFERENCE = "pts_bbox_head.transformer.reference_points"


@pytest.fixture
def detector() -> dict[str, Tensor]:
    """The entries of a BEVFormer-tiny checkpoint that change, and two that do not."""
    return {
        QUERIES: torch.randn(900, 512),
        f"{REFERENCE}.weight": torch.randn(3, 256),
        f"{REFERENCE}.bias": torch.randn(3),
        "img_backbone.conv1.weight": torch.randn(64, 3, 7, 7),
        "img_backbone.bn1.num_batches_tracked": torch.tensor(42),
    }


@pytest.mark.parametrize("source", ["detector.pth", "detector.safetensors"])
@pytest.mark.parametrize("target", ["start.pth", "start.safetensors"])
def test_prepares_a_checkpoint(
    source: str, target: str, detector: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, output = tmp_path / source, tmp_path / target
    if given.suffix == ".pth":
        torch.save({"state_dict": detector, "meta": {"epoch": 24}, "optimizer": {}}, given)
    else:
        save_file(detector, given)
    assert run(["init-stage1", str(given), "-o", str(output)]) == 0
    prepared = load_checkpoint(output).state_dict
    moved = {"reference_points.weight", "reference_points.bias"}
    assert set(prepared) == {key for key in detector if not key.startswith(REFERENCE)} | moved | {
        "query_embedding.weight"
    }
    assert torch.equal(prepared["query_embedding.weight"][:900], detector[QUERIES])
    assert torch.equal(prepared["query_embedding.weight"][900], detector[QUERIES][899])
    assert torch.equal(prepared[QUERIES], detector[QUERIES])
    assert torch.equal(prepared["reference_points.bias"], detector[f"{REFERENCE}.bias"])
    assert all(torch.equal(prepared[key], detector[key]) for key in detector if key.startswith("img_backbone."))
    assert "900 rows -> query_embedding.weight, 901 rows" in capsys.readouterr().out


def test_keeps_the_meta_of_the_training(detector: dict[str, Tensor], tmp_path: Path) -> None:
    write_weights(tmp_path / "m.pth", detector, {"epoch": 24})
    write_weights(tmp_path / "m.safetensors", detector, {"epoch": 24, "time": "Monday"})
    assert load_checkpoint(tmp_path / "m.pth").meta == {"epoch": 24}
    assert load_checkpoint(tmp_path / "m.safetensors").meta == {"time": "Monday"}


def test_new_entries_have_the_shapes_of_stage_1(detector: dict[str, Tensor], golden: Path) -> None:
    manifest = json.loads((golden / "state_dict_manifest_stage1.json").read_text())
    shapes = {entry["key"]: entry["shape"] for entry in manifest}
    prepared = stage1_weights(detector, ModelConfig())
    for key in ("query_embedding.weight", "reference_points.weight", "reference_points.bias"):
        assert list(prepared[key].shape) == shapes[key]


@pytest.mark.parametrize("key", [QUERIES, f"{REFERENCE}.weight", f"{REFERENCE}.bias"])
def test_refuses_missing_and_misshapen_entries(key: str, detector: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match=rf"{key} has shape .* must be .* BEVFormer-tiny"):
        stage1_weights(detector | {key: torch.zeros(2, 7)}, ModelConfig())
    del detector[key]
    with pytest.raises(InputError, match=rf"no '{key}'; give the BEVFormer-tiny"):
        stage1_weights(detector, ModelConfig())


def test_refuses_a_checkpoint_that_is_prepared_already(detector: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match=r"already holds 'query_embedding\.weight'"):
        stage1_weights(stage1_weights(detector, ModelConfig()), ModelConfig())


def test_refuses_another_output_format(detector: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in \.pth or \.safetensors"):
        write_weights(tmp_path / "m.onnx", detector, {})
    assert list(tmp_path.iterdir()) == []
