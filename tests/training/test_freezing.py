"""What the stages of the training leave as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import nn

import plugins.image_encoder.training as image_training
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

    def look_at_all(module: nn.Module, moments: Sequence[Moment]) -> Sequence[Step]:
        return [look(module, moment) for moment in moments]

    def check(module: nn.Module, moment: Moment) -> Step:
        assert moment.tensors["image_features"] == moment.tensors["number"]
        assert module.training == torch.is_grad_enabled()
        return Step()

    model.trained = {
        name: replace(training, together=look_at_all) if name == "image_encoder" else replace(training, step=check)
        for name, training in model.trained.items()
    }
    modes = [module.training for module in model.modules()]
    with torch.enable_grad():
        model(Clip("three", tuple(ClipFrame({"number": torch.tensor(number)}, {}) for number in range(3))))
    assert [seen.count(number) for number in range(3)] == times
    assert [module.training for module in model.modules()] == modes


def encoder(**changes: Option) -> tuple[ClipModel, Mapping[str, Option]]:
    """The network of the first stage, and the options of its image encoder."""
    submodules = stage_submodules(PluginManager.load().submodules(), 1)
    options = default_options(submodules)
    options["image_encoder"] |= changes
    torch.manual_seed(0)
    return ClipModel(Network(join(submodules, CONFIG)), 1, options), options["image_encoder"]


def moments(options: Mapping[str, Option], count: int) -> list[Moment]:
    random = torch.Generator().manual_seed(1)
    size = (len(CONFIG.image.cameras), 3, *CONFIG.image.padded)
    images = [torch.rand(size, generator=random) for _ in range(count)]
    return [Moment({"image": image}, {}, None, number, False, 1, options) for number, image in enumerate(images)]


@pytest.mark.parametrize("values", [1 << 24, 1], ids=["all in one batch", "frame by frame, for their size"])
def test_frames_that_are_looked_at_together_are_seen_as_one_by_one(
    values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the same grids, and to rounding: convolutions sum in another order for another number of pictures."""
    monkeypatch.setitem(image_training.VALUES_TOGETHER, "cpu", values)
    model, options = encoder(grid_mask_probability=0.5)
    module, training, frames = model.network.parts["image_encoder"], model.trained["image_encoder"], moments(options, 3)
    assert training.together is not None
    torch.manual_seed(3)
    hidden = [image_training.seen(module, frame) for frame in frames]
    assert {torch.equal(x, frame.tensors["image"]) for x, frame in zip(hidden, frames, strict=True)} == {True, False}
    torch.manual_seed(3)
    found = training.together(module, frames)
    for step, image in zip(found, hidden, strict=True):
        torch.testing.assert_close(step.tensors["image_features"], module(image), rtol=1e-5, atol=1e-5)


def test_a_backbone_that_goes_by_the_statistics_of_its_batch_sees_frame_after_frame() -> None:
    class Together(Exception):
        """What is not to be asked has been."""

    def refuse(module: nn.Module, moments: Sequence[Moment]) -> Sequence[Step]:
        raise Together

    for trained in (True, False):
        model, options = encoder(freeze_img_backbone=not trained)
        # What comes after the image encoder lacks its inputs.
        model.trained["image_encoder"] = replace(model.trained["image_encoder"], together=refuse)
        clip = Clip("two", tuple(ClipFrame(each.tensors, {}) for each in moments(options, 2)))
        with pytest.raises(KeyError if trained else Together):
            model(clip)
