"""What is demonstrated: a network with its weights, and a drive whose pictures have the size that it takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from toolkit.cli.main import run
from toolkit.config.check import check_values
from toolkit.config.file import load_config
from toolkit.config.model import ModelConfig
from toolkit.conversion.prepare import gather_weights
from toolkit.demo import demo
from toolkit.demo.demonstration import demonstration
from toolkit.demo.pseudo_weights import ASSET
from toolkit.demo.trained import copy_trained_weights
from toolkit.demo.variant import Variant
from toolkit.errors import InputError
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.synthetic.sensors.rig import scaled_cameras
from toolkit.weights.checkpoint import load_checkpoint
from toolkit.wiring import join

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("variant", Variant)
def test_pictures_of_the_drive_have_the_size_that_the_model_takes(variant: Variant) -> None:
    shown = demonstration(variant)
    image = shown.config.image
    check_values(shown.config)
    sizes = {camera.size for camera in scaled_cameras(shown.drive.image_scale)}
    assert sizes == {(image.source_width, image.source_height)}


@pytest.mark.parametrize("variant", Variant)
def test_no_more_frames_are_shown_than_the_drive_has(variant: Variant) -> None:
    shown = demonstration(variant)
    assert 8 <= shown.frames <= shown.drive.keyframes


def test_tiny_is_as_published() -> None:
    assert demonstration(Variant.TINY).config == ModelConfig()


def test_base_has_fewer_pixels_and_cells_alone() -> None:
    """All layers and ranges are those of the published network; feature levels follow from the picture."""
    config = demonstration(Variant.BASE).config
    assert config.image.features == ((32, 52), (16, 26), (8, 13), (4, 7))
    assert (config.image.stage_blocks, config.bev.layers, config.map.attention_levels) == ((3, 4, 23, 3), 6, 4)
    assert config.bev.rotate_center == (config.bev.width / 2, config.bev.height / 2)
    assert config.occupancy.cell_metres * config.bev.width == 100


def test_plugin_files_are_shown_with_weights_that_are_made_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """UniAD-tiny, as trained weights are of the built-in network; unless another is asked for."""

    def shown(*_: object, variant: Variant, **__: object) -> None:
        raise InputError(f"shows {variant}")

    monkeypatch.setattr(demo, "run_demo", shown)
    plugin = tmp_path / "plugin.py"
    plugin.write_text("")
    for given, variant in {(): "mini", ("--plugin", str(plugin)): "tiny"}.items():
        assert run(["demo", *given]) == 2
        assert f"shows {variant}" in capsys.readouterr().err
    assert run(["demo", "--plugin", str(plugin), "--model", "mini"]) == 2
    assert "shows mini" in capsys.readouterr().err


def test_mini_is_the_configured_network_over_pictures_of_its_size() -> None:
    config = demonstration(Variant.MINI).config
    published = load_config(CONFIGS / "uniad_mini.toml")
    image = replace(published.image, source_width=400, source_height=225, scale=1.0)
    assert config == replace(published, image=image)


def test_weights_of_mini_are_few_and_fit(tmp_path: Path) -> None:
    """Every entry is there, as float32 once it is read."""
    config = demonstration(Variant.MINI).config
    checkpoint, anchors = copy_trained_weights(tmp_path)
    assert checkpoint.stat().st_size <= 25e6
    stored = load_checkpoint(checkpoint).state_dict
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {torch.float32}
    network = Network(join(PluginManager.load().submodules(), config))
    network.load_weights(gather_weights(network, stored, {ASSET: np.load(anchors)}))
    assert sum(each.numel() for each in network.parameters()) <= 12e6


def test_weights_of_mini_are_stored_in_half_their_size(tmp_path: Path) -> None:
    """But for vectors, which are few: biases and normalisation."""
    with safe_open(copy_trained_weights(tmp_path)[0], "pt") as file:
        kinds = {(len(file.get_slice(key).get_shape()) > 1, file.get_slice(key).get_dtype()) for key in file.keys()}  # noqa: SIM118
    assert kinds <= {(True, "F16"), (False, "F32"), (False, "I64")}


@pytest.mark.full
def test_mini_perceives_the_drive_that_it_has_learnt(tmp_path: Path) -> None:
    """The whole demonstration, judged by what is known about its drive; bounds are those of its training."""
    pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")
    assert run(["demo", "-o", str(tmp_path / "demo")]) == 0
    assert (tmp_path / "demo/report.html").exists()
    metrics = json.loads((tmp_path / "demo/evaluation/metrics.json").read_text())["metrics"]
    figures = {each["name"]: each["value"] for metric in metrics for each in metric["figures"]}
    assert figures["detection/mAP"] >= 0.4
    assert figures["planning/L2@3s"] <= 1.5
