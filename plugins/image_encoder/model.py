"""ResNet and its neck: camera images to feature maps of one or several levels.

Sources: He et al. 2016 ("Deep Residual Learning", table 1), Zhu et al. 2019 ("Deformable ConvNets v2"), and Lin et al.
2017 ("Feature Pyramid Networks", section 3), of which UniAD-tiny keeps a single level.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from custom_ops.modulated_deformable_convolution.op import modulated_deformable_convolution
from toolkit.config.check import STAGE_STRIDES
from toolkit.config.model import BackboneStyle, ImageConfig, ModelConfig

EXPANSION = 4
TAPS = 9


class DeformableConv2d(nn.Module):
    """3x3 convolution of samples, whose offsets and masks a plain convolution of the same input gives."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        self.conv_offset = nn.Conv2d(channels, 3 * TAPS, 3, padding=1)
        nn.init.kaiming_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same."""
        offset, mask = self.conv_offset(x).split((2 * TAPS, TAPS), 1)
        out: Tensor = modulated_deformable_convolution(x, offset, mask.sigmoid(), self.weight, 1, 1, 1)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a skip connection; 4 * `width` channels out.

    The 3x3 has the stride, or in Caffe's style the first 1x1; a deformable 3x3 has none.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int,
        style: BackboneStyle = BackboneStyle.PYTORCH,
        *,
        deformable: bool = False,
    ) -> None:
        super().__init__()
        outputs = EXPANSION * width
        first, second = (stride, 1) if style is BackboneStyle.CAFFE else (1, stride)
        self.conv1 = nn.Conv2d(inputs, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2: nn.Module = nn.Conv2d(width, width, 3, second, padding=1, bias=False)
        if deformable and second == 1:
            self.conv2 = DeformableConv2d(width)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn1(self.conv1(x)).relu()
        inner = self.bn2(self.conv2(inner)).relu()
        out: Tensor = (self.bn3(self.conv3(inner)) + self.downsample(x)).relu()
        return out


class ResNet(nn.Module):
    """Bottleneck ResNet; gives the stages from the one of the configuration's stride on."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.config = config
        stem = config.base_channels
        self.conv1 = nn.Conv2d(3, stem, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = self.stage(0, stem, stride=1)
        self.layer2 = self.stage(1, EXPANSION * stem, stride=2)
        self.layer3 = self.stage(2, 2 * EXPANSION * stem, stride=2)
        self.layer4 = self.stage(3, 4 * EXPANSION * stem, stride=2)

    def stage(self, index: int, inputs: int, stride: int) -> nn.Sequential:
        """The bottlenecks of a stage, of which the first has the stride."""
        width, deformable = self.config.base_channels * 2**index, self.config.deformable_stages[index]
        first = Bottleneck(inputs, width, stride, self.config.backbone_style, deformable=deformable)
        others = range(self.config.stage_blocks[index] - 1)
        return nn.Sequential(first, *(Bottleneck(EXPANSION * width, width, 1, deformable=deformable) for _ in others))

    @property
    def outputs(self) -> tuple[int, ...]:
        """Channels of what each of the given stages gives."""
        channels = [EXPANSION * self.config.base_channels * 2**index for index in range(len(STAGE_STRIDES))]
        return tuple(channels[STAGE_STRIDES.index(self.config.stride) :])

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """[N, 3, H, W] -> [N, C, H/S, W/S] of each of the given stages, with as many channels as `outputs` says."""
        x = self.maxpool(self.bn1(self.conv1(image)).relu())
        stages = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            stages.append(x)
        return tuple(stages[-len(self.outputs) :])


class FeaturePyramid(nn.Module):
    """Feature pyramid: 1x1 laterals, summed from coarse to fine, then 3x3 convolutions, without norm or activation.

    One level more than there are inputs comes from the coarsest output by a 3x3 convolution with stride 2.
    """

    def __init__(self, inputs: Sequence[int], outputs: int, levels: int) -> None:
        super().__init__()
        strides = [1] * len(inputs) + [2] * (levels - len(inputs))
        self.lateral_convs = nn.ModuleList([named_conv(nn.Conv2d(channels, outputs, 1)) for channels in inputs])
        self.fpn_convs = nn.ModuleList(
            [named_conv(nn.Conv2d(outputs, outputs, 3, stride, padding=1)) for stride in strides]
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """[N, inputs, H, W] of each stage, the finest first -> [N, outputs, H, W] of each level."""
        sums = [lateral(x) for lateral, x in zip(self.lateral_convs, inputs, strict=True)]
        for level in reversed(range(len(sums) - 1)):
            sums[level] = sums[level] + interpolate(sums[level + 1], sums[level].shape[-2:], mode="nearest")
        outputs: list[Tensor] = [convolve(x) for convolve, x in zip(self.fpn_convs, sums, strict=False)]
        for convolve in self.fpn_convs[len(sums) :]:
            outputs.append(convolve(outputs[-1]))
        return tuple(outputs)


def named_conv(conv: nn.Conv2d) -> nn.Sequential:
    """The convolution under the checkpoint's extra key ``conv``."""
    return nn.Sequential(OrderedDict(conv=conv))


class ImageEncoder(nn.Module):
    """Backbone and neck, each camera on its own; key prefixes ``img_backbone.`` and ``img_neck.``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.img_backbone = ResNet(config.image)
        self.img_neck = FeaturePyramid(self.img_backbone.outputs, config.embed, config.image.levels)

    def forward(self, image: Tensor) -> Tensor:
        """Normalised images [cameras, 3, H, W] -> image features [cameras, embed, h, w].

        h x w are the cells of the only level, or 1 x those of all levels one after the other, the finest first.
        """
        levels = self.img_neck(self.img_backbone(image))
        return levels[0] if len(levels) == 1 else torch.cat([x.flatten(2) for x in levels], 2).unsqueeze(2)
