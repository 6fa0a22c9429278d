"""ResNet-50 and its neck: camera images to one feature map each, 1/32 of the image size.

Sources: He et al. 2016 ("Deep Residual Learning", table 1) with the stride on the 3x3 convolution ('pytorch' style),
and Lin et al. 2017 ("Feature Pyramid Networks", section 3), of which UniAD-tiny keeps a single level.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from toolkit.config.model import ModelConfig

STEM_CHANNELS = 64
EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions around a skip connection; 4 * `width` channels out."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
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


def stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """`blocks` bottlenecks, of which the first has the stride."""
    first = Bottleneck(inputs, width, stride)
    return nn.Sequential(first, *(Bottleneck(EXPANSION * width, width, 1) for _ in range(blocks - 1)))


class ResNet(nn.Module):
    """Bottleneck ResNet; gives the last stage only."""

    outputs = EXPANSION * 8 * STEM_CHANNELS

    def __init__(self, stage_blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = stage(STEM_CHANNELS, 64, stage_blocks[0], stride=1)
        self.layer2 = stage(256, 128, stage_blocks[1], stride=2)
        self.layer3 = stage(512, 256, stage_blocks[2], stride=2)
        self.layer4 = stage(1024, 512, stage_blocks[3], stride=2)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 2048, H/32, W/32]."""
        x = self.maxpool(self.bn1(self.conv1(image)).relu())
        out: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return out


class FeaturePyramid(nn.Module):
    """Feature pyramid of a single level: 1x1 lateral, then 3x3 output convolution, without norm or activation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList([named_conv(nn.Conv2d(inputs, outputs, 1))])
        self.fpn_convs = nn.ModuleList([named_conv(nn.Conv2d(outputs, outputs, 3, padding=1))])

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H, W]."""
        out: Tensor = self.fpn_convs[0](self.lateral_convs[0](x))
        return out


def named_conv(conv: nn.Conv2d) -> nn.Sequential:
    """The convolution under the checkpoint's extra key ``conv``."""
    return nn.Sequential(OrderedDict(conv=conv))


class ImageEncoder(nn.Module):
    """Backbone and neck, each camera on its own; key prefixes ``img_backbone.`` and ``img_neck.``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.img_backbone = ResNet(config.image.stage_blocks)
        self.img_neck = FeaturePyramid(ResNet.outputs, config.embed)

    def forward(self, image: Tensor) -> Tensor:
        """Normalised RGB images [cameras, 3, H, W] -> image features [cameras, embed, H/32, W/32]."""
        out: Tensor = self.img_neck(self.img_backbone(image))
        return out
