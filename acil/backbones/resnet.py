"""Residual networks for small images, as published for CIFAR."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from acil.backbones.backbone import Backbone
from acil.backbones.images import ImageInput


class CifarResNet(Backbone):
    """Three stages of 16, 32 and 64 channels with parameter-free shortcuts, then global average pooling: 64 features.

    Args:
        channels: channels of the images.
        depth: 6 n + 2 for n blocks per stage: 20, 32, ...

    References:
        He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2 (option A).
    """

    num_features = 64

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.images = ImageInput(channels)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        )
        self.stages = nn.Sequential(
            *(_Block(16, 16, 1) for _ in range(blocks)),
            *(_Block(16 if first else 32, 32, 2 if first else 1) for first in _first_of(blocks)),
            *(_Block(32 if first else 64, 64, 2 if first else 1) for first in _first_of(blocks)),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, H, W) in [0, 1], or uint8, to (n, 64)."""
        maps: Tensor = self.stages(self.stem(self.images(images)))
        return maps.mean(dim=(2, 3))


class _Block(nn.Module):
    """Two convolutions beside a shortcut that subsamples and pads with zero channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.padding = (outputs - inputs) // 2

    def forward(self, maps: Tensor) -> Tensor:
        residual = F.relu(self.first_norm(self.first(maps)), inplace=True)
        residual = self.second_norm(self.second(residual))
        shortcut = F.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(residual + shortcut, inplace=True)


def _first_of(blocks: int) -> list[bool]:
    return [index == 0 for index in range(blocks)]
