"""What the stages of the training leave as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.corpus.sample import CONFIG
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.training.clip import Clip, ClipFrame
from toolkit.training.clip_model import ClipModel
from toolkit.training.settings import default_options
from toolkit.training.spec import Moment, Option, Step
from toolkit.training.start import stage_submodules
from toolkit.wiring import join


def frozen(stage: int, **changes: Option) -> Mapping[str, bool]:
    """Whether parameters, by their official names, are frozen."""
    submodules = stage_submodules(PluginManager.load().submodules(), stage)
    options = default_options(submodules)
    options["image_encoder"] |= changes
    model = ClipModel(Network(join(submodules, CONFIG)), stage, options)
    parts = model.network.parts.values()
    return {name: not parameter.requires_grad for part in parts for name, parameter in part.named_parameters()}


CONSTANTS = {"criterion.code_weights", "pts_bbox_head.code_weights"}


def test_stage_1_trains_all_but_the_backbone() -> None:
    found = frozen(1)
    assert {name for name, still in found.items() if still} == CONSTANTS | {
        name for name in found if name.startswith("img_backbone.")
    }


def test_stage_2_trains_nothing_of_the_pictures() -> None:
    """The BEV encoder gets no gradient, and is not frozen, as in the reference."""
    found = frozen(2)
    assert {name for name, still in found.items() if still} == CONSTANTS | {
        name for name in found if name.startswith("img_")
    }


def test_the_backbone_may_be_trained() -> None:
    assert {name for name, still in frozen(1, freeze_img_backbone=False).items() if still} == CONSTANTS


@pytest.mark.parametrize("stage", [1, 2])
def test_statistics_of_the_backbone_stay(stage: int) -> None:
    submodules = stage_submodules(PluginManager.load().submodules(), stage)
    model = ClipModel(Network(join(submodules, CONFIG)), stage, default_options(submodules))
    assert not model.network.parts["image_encoder"].get_submodule("img_backbone").training
    assert model.network.parts["tracking"].training


@pytest.mark.parametrize(("stage", "times"), [(1, [2, 2, 1]), (2, [1, 1, 1])])
def test_pictures_are_looked_at_once_where_their_encoder_is_frozen(stage: int, times: list[int]) -> None:
    """Else also for the history of the frame that follows, in evaluation mode, and that of the first for itself."""
    submodules = stage_submodules(PluginManager.load().submodules(), stage)
    model = ClipModel(Network(join(submodules, CONFIG)), stage, default_options(submodules))
    seen: list[int] = []

    def look(module: nn.Module, moment: Moment) -> Step:
        assert module.training == (stage == 1 and torch.is_grad_enabled())
        seen.append(int(moment.tensors["number"]))
        return Step({"image_features": moment.tensors["number"]})

    def check(module: nn.Module, moment: Moment) -> Step:
        assert moment.tensors["image_features"] == moment.tensors["number"]
        assert module.training == torch.is_grad_enabled()
        return Step()

    model.trained = {
        name: replace(training, step=look if name == "image_encoder" else check)
        for name, training in model.trained.items()
    }
    modes = [module.training for module in model.modules()]
    with torch.enable_grad():
        model(Clip("three", tuple(ClipFrame({"number": torch.tensor(number)}, {}) for number in range(3))))
    assert [seen.count(number) for number in range(3)] == times
    assert [module.training for module in model.modules()] == modes
