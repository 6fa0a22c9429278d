"""The reference's training of the golden clips, from pictures to gradients."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import plugins.tracking.training as tracking_training
from plugins.tracking import randomness
from plugins.tracking.matching import TrackMatches, match_tracks
from tests.conftest import load_script
from tests.training.conftest import ROUNDING, GoldenClip, load_clip
from toolkit.config.model import ModelConfig
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.training.clip import Clip
from toolkit.training.clip_file import read_clip
from toolkit.training.clip_losses import clip_losses, default_type
from toolkit.training.clip_model import ClipModel, without_randomness
from toolkit.training.config import TrainingConfig
from toolkit.training.optimiser import clip_gradients, make_optimiser
from toolkit.training.settings import default_options
from toolkit.training.start import stage_submodules
from toolkit.wiring import join

pytestmark = pytest.mark.slow
LEARNING_RATE = 2e-4
ZERO = 1e-9
"""Gradients that are smaller are rounding, as those of a bias before a normalisation."""


@dataclass(frozen=True)
class Trained:
    """A golden clip after forward, backward and a step of the optimiser, in float64."""

    golden: GoldenClip
    expected: Mapping[str, Any]
    """What the reference says of its gradients"""
    found: Mapping[str, Any]
    """What `train --clip` writes"""
    matches: list[TrackMatches]
    """By frame, then by decoder layer"""
    gradients: Mapping[str, Tensor | None]
    before: Mapping[str, Tensor]
    """Parameters"""
    after: Mapping[str, Tensor]
    """Parameters after the step"""


def golden_network(folder: Path, stage: int) -> Network:
    """The network of a stage with the weights of the reference's, in the default type."""
    network = Network(join(stage_submodules(PluginManager.load().submodules(), stage), ModelConfig()))
    manifest = folder / ("state_dict_manifest_stage1.json" if stage == 1 else "state_dict_manifest.json")
    weights = load_script(folder / "pseudo_checkpoint.py").make_state_dict(str(manifest), "A")
    weights["motion_head.motion_anchors"] = torch.from_numpy(np.load(folder / "motion_anchor_infos_mode6_anchors.npy"))
    network.load_weights({key: weights[key] for key in network.weights()})
    # The backbone is frozen, and sees every picture twice: as the present and as the past.
    backbone: Any = network.parts["image_encoder"].img_backbone
    backbone.forward = remembered(backbone.forward)
    return network


def remembered(forward: Callable[[Tensor], tuple[Tensor, ...]]) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """The same of pictures of one or several frames, computed once for each frame."""
    known: list[tuple[Tensor, tuple[Tensor, ...]]] = []

    def of_frame(pictures: Tensor) -> tuple[Tensor, ...]:
        for seen, given in known:
            if torch.equal(seen, pictures):
                return given
        known.append((pictures, forward(pictures)))
        return known[-1][1]

    cameras = len(ModelConfig().image.cameras)
    return lambda pictures: tuple(map(torch.cat, zip(*map(of_frame, pictures.split(cameras)), strict=True)))


def golden_clip(folder: Path, stage: int, dtype: torch.dtype, path: Path) -> Clip:
    """The clip as its generator makes it, pictures included, by way of a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        np.savez(path, **load_script(folder / "training" / "make_train_batch.py").make_batch(stage))
    return read_clip(path, ModelConfig(), dtype)


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> list[TrackMatches]:
    """All matches of tracks, as they are made."""
    return recorded(monkeypatch)


def recorded(patch: pytest.MonkeyPatch) -> list[TrackMatches]:
    matches: list[TrackMatches] = []

    def match(*arguments: Any) -> TrackMatches:
        found = match_tracks(*arguments)
        matches.extend(found.layers())
        return found

    patch.setattr(tracking_training, "match_tracks", match)
    return matches


def check_matches(assignments: Mapping[str, Any], matches: list[TrackMatches]) -> None:
    """Every decoder layer finds the same objects with the same queries, and as many enter every frame."""
    for entry, found in zip(assignments["matches"], matches, strict=True):
        rows = found.carrying.nonzero().squeeze(1)
        pairs = torch.stack((rows, found.objects[rows]), 1).tolist()
        assert sorted(pairs) == sorted(entry["pairs"]), (entry["frame"], entry["dec"])
    layers = len(matches) // len(assignments["frames"])
    for entry, found in zip(assignments["frames"], matches[layers - 1 :: layers], strict=True):
        assert len(found.ids) == entry["num_queries"]
        for track in entry["tracks"]:
            assert int(found.ids[track["query"]]) == track["obj_id"]


def imitate_defect(network: Network) -> None:
    """Give gradients to the occupancy's bottlenecks in the layout in which the reference does.

    Torch 2.13, with which the reference was run, computes wrong gradients of batch normalisation on the CPU where the
    incoming gradient is the view of a transposed matrix of pixels and the input is none. Ours is contiguous.
    """

    def transposed(gradient: Tensor) -> Tensor:
        return gradient[0].flatten(1).t().contiguous().t().view(gradient.shape)

    def watch(module: nn.Module, inputs: Any, output: Tensor) -> None:
        output.register_hook(transposed)

    occupancy: Any = network.parts["occupancy"]
    for block in occupancy.occ_head.downscale_convs:
        block.register_forward_hook(watch)


@pytest.fixture(scope="module", params=[1, 2])
def trained(golden: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Trained:
    """Once for each stage: it takes a minute or two."""
    stage = request.param
    with default_type(torch.float64), pytest.MonkeyPatch.context() as patch:
        matches = recorded(patch)
        network = golden_network(golden, stage)
        if stage == 2:
            imitate_defect(network)
        clip = golden_clip(golden, stage, torch.float64, tmp_path_factory.mktemp("clip") / "clip.npz")
        found = clip_losses(network, clip, stage, default_options(network.graph.submodules))
    parameters = {name: each for part in network.parts.values() for name, each in part.named_parameters()}
    trained = {name: each for name, each in parameters.items() if each.requires_grad}
    gradients = {name: None if each.grad is None else each.grad.clone() for name, each in trained.items()}
    before = {name: each.detach().clone() for name, each in trained.items()}
    config = TrainingConfig(learning_rate=LEARNING_RATE)
    optimiser = make_optimiser(trained.items(), config)
    clip_gradients(trained.values(), config.gradient_norm)
    optimiser.step()
    return Trained(
        load_clip(golden / "training", stage, "f64"),
        json.loads((golden / "training" / f"stage{stage}_f64_grads.json").read_text()),
        found,
        matches,
        gradients,
        before,
        {name: each.detach() for name, each in trained.items()},
    )


def test_every_loss(trained: Trained) -> None:
    """To 1e-6, and there are no others."""
    exact = trained.golden.exact
    assert trained.found["losses"].keys() == exact.keys() - {"loss"}
    for name, value in trained.found["losses"].items():
        assert value == pytest.approx(exact[name], rel=1e-6, abs=1e-12), name
    assert trained.found["total"] == pytest.approx(exact["loss"], rel=1e-6)


def test_every_match_of_tracks(trained: Trained) -> None:
    check_matches(trained.golden.assignments, trained.matches)


def test_norms_of_all_gradients(trained: Trained) -> None:
    """To 1e-5; the same parameters are frozen, and the same have no gradient."""
    found, expected = trained.found["grad_norm"], trained.expected["grad_norm"]
    assert found.keys() == expected.keys()
    assert {name for name, norm in found.items() if norm is None} == {n for n, norm in expected.items() if norm is None}
    for name, norm in expected.items():
        assert norm is None or found[name] == pytest.approx(norm, rel=1e-5, abs=ZERO), name
    assert trained.found["total_grad_norm"] == pytest.approx(trained.expected["total_grad_norm_before_clip"], rel=1e-6)


def test_stored_gradients(trained: Trained) -> None:
    for name in trained.golden.gradients:
        gradient = trained.gradients[name]
        assert gradient is not None
        if trained.expected["grad_norm"][name] > ZERO:
            trained.golden.check_gradient(name, gradient)
        else:
            assert gradient.norm() < ZERO


def test_first_step_of_the_optimiser(trained: Trained, golden: Path) -> None:
    """Without warm-up, as the reference's was stored; what has no gradient stays, without decay."""
    for name, norm in trained.expected["update_norm"].items():
        update = trained.after[name] - trained.before[name]
        assert update.norm().item() == pytest.approx(norm or 0, rel=1e-4, abs=1e-12), name
    stored = np.load(golden / "training" / f"stage{trained.found['stage']}_f64_grads.npz")
    for key in stored:
        kind, _, name = key.partition(".")
        if kind == "param_after":
            expected = torch.from_numpy(stored[key])
            torch.testing.assert_close(trained.after[name], expected, rtol=0, atol=1e-3 * LEARNING_RATE)


@pytest.mark.thorough
@pytest.mark.parametrize("stage", [1, 2])
def test_every_loss_in_float32(golden: Path, stage: int, tmp_path: Path, record: list[TrackMatches]) -> None:
    """To ten times the most by which losses of the kind differ from float64 in the reference, in either stage."""
    network = golden_network(golden, stage)
    options = without_randomness(network, default_options(network.graph.submodules))
    losses = ClipModel(network, stage, options)(golden_clip(golden, stage, torch.float32, tmp_path / "clip.npz"))
    expected = load_clip(golden / "training", stage, "f32")
    assert losses.keys() == expected.exact.keys() - {"loss"}
    noise: dict[str, float] = {}
    for each in (load_clip(golden / "training", number, "f32") for number in (1, 2)):
        for name, exact in each.exact.items():
            noise[kind(name)] = max(noise.get(kind(name), ROUNDING), each.noise[name] / max(abs(exact), ZERO))
    for name, loss in losses.items():
        assert loss.mean().item() == pytest.approx(expected.exact[name], rel=10 * noise[kind(name)], abs=ZERO), name
    check_matches(expected.assignments, record)


def kind(name: str) -> str:
    """Of a loss: its name without the numbers of frames and layers."""
    return re.sub(r"\d+", "", name)


@pytest.mark.thorough
def test_tracks_that_are_dropped_and_false_ones(
    golden: Path, tmp_path: Path, record: list[TrackMatches], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Number 1 of the tracks is lost, and every third of the rest brings a false one, in place of what chance says."""
    lost = itertools.cycle((True, False))  # the first draw of a frame is of tracks that are lost
    monkeypatch.setattr(
        randomness,
        "chance",
        lambda rows, _: torch.arange(len(rows)) == 1 if next(lost) else torch.arange(len(rows)) % 3 == 0,
    )
    network = golden_network(golden, 1)
    options = without_randomness(network, default_options(network.graph.submodules))
    losses = ClipModel(network, 1, options)(golden_clip(golden, 1, torch.float32, tmp_path / "clip.npz"))
    stored = golden / "training"
    for name, expected in json.loads((stored / "stage1_fp_losses.json").read_text())["losses"].items():
        if name != "loss":
            assert losses[name].mean().item() == pytest.approx(expected, rel=2e-3, abs=1e-6), name
    check_matches(json.loads((stored / "stage1_fp_assignments.json").read_text()), record)
