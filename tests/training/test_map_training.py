"""The map's training step: on the BEV of the golden clips it loses what it loses the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from plugins.map_segmentation.model import MapSegmentation
from plugins.map_segmentation.plugin import SUBMODULE
from plugins.map_segmentation.training import TRAINING
from tests.training.conftest import GoldenClip, default_type
from toolkit.config.model import BevConfig, MapConfig, ModelConfig
from toolkit.training.clip_model import without_randomness
from toolkit.training.spec import Moment

SMALL = ModelConfig(
    embed=16,
    feedforward=16,
    bev=BevConfig(height=4, width=4),
    map=MapConfig(
        queries=7, encoder_layers=1, decoder_layers=2, thing_mask_layers=2, stuff_mask_layers=2, max_instances=10
    ),
)


def moment(bev: Tensor, truth: Mapping[str, Tensor], *, last: bool = True) -> Moment:
    return Moment({"bev": bev}, truth, None, index=2, last=last, stage=1, options={})


def dividers(count: int) -> dict[str, Tensor]:
    """So many dividers that cover everything, and drivable area everywhere."""
    labels = torch.tensor([0] * count + [3])
    return {
        "gt_lane_labels": labels,
        "gt_lane_bboxes": torch.tensor([[0, 0, 3, 3]]).expand(len(labels), 4),
        "gt_lane_masks": torch.ones(len(labels), 4, 4, dtype=torch.uint8),
    }


@pytest.fixture
def small() -> MapSegmentation:
    torch.manual_seed(0)
    module = MapSegmentation(SMALL).train()
    without_randomness(module, {})
    return module


def test_losses_are_the_reference_s(clip: GoldenClip, build_submodule: Callable[..., nn.Module]) -> None:
    """All of them: decoder layers, final masks, mask blocks, and those that are always 0."""
    with default_type(clip.dtype):
        module = build_submodule(SUBMODULE).train()
    without_randomness(module, {})
    clip.check_all(TRAINING.step(module, moment(clip.outputs["bev_embed_last"].squeeze(1), clip.truth)).losses, "map.")


def test_only_the_present_is_segmented(small: MapSegmentation) -> None:
    step = TRAINING.step(small, moment(torch.randn(16, 16), {}, last=False))
    assert not step.tensors
    assert not step.losses


def test_motion_gets_the_lanes_that_inference_gives_it(small: MapSegmentation) -> None:
    bev = torch.randn(16, 16)
    step = TRAINING.step(small, moment(bev, dividers(2)))
    outputs = dict(zip([spec.name for spec in SUBMODULE.outputs], small(bev), strict=True))
    for name, tensor in step.tensors.items():
        torch.testing.assert_close(tensor, outputs[name], rtol=0, atol=0)


@pytest.mark.parametrize("things", [0, 2])
def test_branches_that_the_reference_weighs_by_0_get_a_gradient_of_zeros(small: MapSegmentation, things: int) -> None:
    """With it the optimiser lets them decay; also where no query has been matched."""
    with torch.enable_grad():
        losses = TRAINING.step(small, moment(torch.randn(16, 16), dividers(things))).losses
        unused = [loss for name, loss in losses.items() if name.endswith(("iou_f", "bbox_f", "cls_f"))]
        head = small.seg_head
        branches = [*head.reg_branches2.parameters(), *head.cls_thing_branches.parameters()]
        gradients = torch.autograd.grad(torch.stack(unused).sum(), branches)
    assert len(unused) == 6
    assert not any(gradient.any() for gradient in gradients)
