"""A small convolutional network: the default for 32x32 images on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from acil.backbones.backbone import Backbone
from acil.backbones.images import ImageInput

WIDTH = 160  # channels of the last convolution


class ConvNet(Backbone):
    """Five convolutions with batch normalisation, then average pooling: 0.3 M parameters, 640 features.

    The means of the four quadrants tell the head more than one mean of the whole image does.

    Args:
        channels: channels of the images.
    """

    num_features = 4 * WIDTH

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ImageInput(channels),
            *_convolution(channels, 16, stride=1),
            *_convolution(16, 32, stride=2),
            *_convolution(32, 64, stride=2),
            *_convolution(64, 128, stride=2),
            *_convolution(128, WIDTH, stride=1),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        ).to(memory_format=torch.channels_last)  # a third faster on CPUs

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, H, W) in [0, 1], or uint8, to (n, 640)."""
        features: Tensor = self.layers(images.contiguous(memory_format=torch.channels_last))
        return features


def _convolution(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
