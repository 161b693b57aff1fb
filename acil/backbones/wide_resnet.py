"""Wide residual networks for small images, the networks of most work on noisy labels and foreign images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acil.backbones.backbone import Backbone
from acil.backbones.images import ImageInput


class WideResNet(Backbone):
    """Three stages of 16, 32 and 64 times ``width`` channels, then global average pooling; without dropout.

    Args:
        channels: channels of the images.
        depth: 6 n + 4 for n blocks per stage: 16, 28, 40, ...
        width: factor of the channels; the features are 64 times as wide.

    References:
        Zagoruyko and Komodakis, "Wide residual networks", BMVC 2016.
    """

    def __init__(self, channels: int, depth: int, width: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        widths = [16 * width, 32 * width, 64 * width]
        self.num_features = widths[-1]
        self.images = ImageInput(channels)
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.stages = nn.Sequential(
            *_stage(16, widths[0], blocks, stride=1),
            *_stage(widths[0], widths[1], blocks, stride=2),
            *_stage(widths[1], widths[2], blocks, stride=2),
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)  # the layout that GPUs' 16-bit convolutions take

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, H, W) in [0, 1], or uint8, to (n, 64 width)."""
        maps = self.stem(self.images(images).contiguous(memory_format=torch.channels_last))
        return F.relu(self.norm(self.stages(maps)), inplace=True).mean(dim=(2, 3))


class _Block(nn.Module):
    """Two convolutions, each behind its normalisation, beside a shortcut: a convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first_norm = nn.BatchNorm2d(inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False) if inputs != outputs else None

    def forward(self, maps: Tensor) -> Tensor:
        active = F.relu(self.first_norm(maps), inplace=True)
        residual: Tensor = self.second(F.relu(self.second_norm(self.first(active)), inplace=True))
        return residual + (maps if self.shortcut is None else self.shortcut(active))


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> list[_Block]:
    return [_Block(inputs, outputs, stride), *(_Block(outputs, outputs, 1) for _ in range(blocks - 1))]
