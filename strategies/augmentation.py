"""Augmentation of whole mini-batches, as Avalanche plugins."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from avalanche.core import BaseSGDPlugin
from torch import Tensor


class BatchAugmentation(BaseSGDPlugin):  # type: ignore[misc]
    """Changes the images of every training mini-batch; a subclass says how.

    All random numbers come from torch's global CPU generator, so that one seed fixes them on every device.
    """

    def augment(self, images: Tensor) -> Tensor:
        """(n, C, H, W) images to changed images of the same shape."""
        raise NotImplementedError

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Replace the mini-batch's images."""
        strategy.mbatch[0] = self.augment(strategy.mb_x)


class AffineAugmentation(BatchAugmentation):
    """Small rotations, scalings and shifts: for letters, which must not be mirrored.

    Args:
        degrees: largest rotation either way.
        scale: largest relative change of size either way.
        shift: largest shift either way, as a share of the side.
    """

    def __init__(self, degrees: float = 10.0, scale: float = 0.1, shift: float = 0.08) -> None:
        super().__init__()
        self.degrees, self.scale, self.shift = degrees, scale, shift

    def augment(self, images: Tensor) -> Tensor:
        """(n, C, H, W) in [0, 1], or uint8, to floating point of the same shape; the border repeats outside."""
        if not images.is_floating_point():
            images = images.to(torch.get_default_dtype()) / 255
        n, _, height, width = images.shape
        angle = _uniform(n, math.radians(self.degrees))
        zoom = 1 + _uniform(n, self.scale)
        shift = 2 * torch.stack([_uniform(n, self.shift), _uniform(n, self.shift)], dim=1)  # the grid spans -1..1
        cos, sin = zoom * torch.cos(angle), zoom * torch.sin(angle)
        tall = height / width  # the grid's unit is half a side: without this, oblong images would shear
        turn = torch.stack([torch.stack([cos, -sin * tall], dim=1), torch.stack([sin / tall, cos], dim=1)], dim=1)
        grid = F.affine_grid(torch.cat([turn, shift[:, :, None]], dim=2), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid.to(images), padding_mode="border", align_corners=False)


class CropFlipAugmentation(BatchAugmentation):
    """Random crops of the padded image, and mirror images: for photographs.

    The border is repeated, where publications pad with black: black borders, which no image has that is classified
    later, move the statistics of every normalisation in the network.

    Args:
        padding: pixels added at each side before the crop.
    """

    def __init__(self, padding: int = 4) -> None:
        super().__init__()
        self.padding = padding

    def augment(self, images: Tensor) -> Tensor:
        """(n, C, H, W) to the same shape; the border repeats outside."""
        n, _, height, width = images.shape
        down, right = (torch.randint(-self.padding, self.padding + 1, (n, 1)) for _ in range(2))
        mirrored = torch.rand(n, 1) < 0.5
        columns = torch.arange(width).expand(n, width)
        columns = (torch.where(mirrored, columns.flip(1), columns) + right).clamp(0, width - 1)
        rows = (torch.arange(height) + down).clamp(0, height - 1)
        sample = torch.arange(n)[:, None, None]
        picked = images.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]]
        return picked.permute(0, 3, 1, 2).contiguous()


_AUGMENTATIONS: dict[str, type[BatchAugmentation] | None] = {
    "affine": AffineAugmentation,
    "crop-flip": CropFlipAugmentation,
    "none": None,
}


def augmentation_plugins(name: str) -> list[BatchAugmentation]:
    """The plugins of an augmentation's name: one, or none for "none".

    Raises:
        ValueError: there is no such augmentation; says which there are.
    """
    if name not in _AUGMENTATIONS:
        raise ValueError(f"there is no augmentation {name!r}; choose from: {', '.join(_AUGMENTATIONS)}")
    kind = _AUGMENTATIONS[name]
    return [] if kind is None else [kind()]


def _uniform(n: int, limit: float) -> Tensor:
    return (2 * torch.rand(n) - 1) * limit
