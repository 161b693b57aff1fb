"""What every backbone does to images first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageInput(nn.Module):
    """Normalises images, so that a saved model needs to be told nothing about its input.

    Args:
        channels: channels of the network behind it; grey images are repeated to fill them.
        mean: subtracted from values in [0, 1]; one value or one per channel.
        std: then divided by.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, mean: Sequence[float] = (0.5,), std: Sequence[float] = (0.5,)) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, H, W) in [0, 1], or uint8, to normalised (n, channels, H, W).

        Raises:
            ValueError: the images have another number of channels.
        """
        if images.ndim != 4 or images.shape[1] not in (1, self.channels):
            raise ValueError(
                f"the backbone expects images of shape (n, {self.channels}, H, W), got {tuple(images.shape)}"
            )
        values = images.to(self.mean.dtype)
        if not images.is_floating_point():
            values = values / 255
        normalised = (values - self.mean) / self.std
        return normalised.expand(-1, self.channels, -1, -1)
