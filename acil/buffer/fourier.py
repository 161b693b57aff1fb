"""Random Fourier features of standardised features."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from acil.buffer.buffer import Buffer

# Below this share of the median deviation a feature counts as constant among the first ones learned. Divided by its
# own deviation it would drown all others as soon as it moves: it takes the median instead.
CONSTANT_SHARE = 1e-3


class FourierBuffer(Buffer):
    """``phi = cos(x W + b)`` for features x standardised by the mean and deviation of the first ones learned.

    Inner products of such phi approximate a Gaussian kernel of width ``2 sqrt(in_features)`` between standardised
    features: about twice their typical distance, whatever the scale and offset of a backbone's features.

    Args:
        in_features: width of a feature.
        dim: width d of an expanded feature.
        seed: fixes W (normal entries of variance 1/width^2) and b (uniform in 0..2 pi).

    Attributes:
        mean: (in_features,) float32, subtracted from a feature; fixed by ``calibrate``.
        deviation: (in_features,) float32, then divided by; zero until calibrated.

    References:
        Rahimi and Recht, "Random Features for Large-Scale Kernel Machines", NeurIPS 2007.
    """

    name = "fourier"
    projection: Tensor
    offset: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, in_features: int, dim: int, seed: int = 0) -> None:
        super().__init__(in_features, dim, seed)
        generator = self._generator()
        self.register_buffer("projection", torch.randn(in_features, dim, generator=generator) / (2 * in_features**0.5))
        self.register_buffer("offset", 2 * math.pi * torch.rand(dim, generator=generator))
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("deviation", torch.zeros(in_features))

    @property
    def is_calibrated(self) -> bool:
        """Whether mean and deviation are fixed."""
        return bool(self.deviation.any())

    def calibrate(self, features: Tensor) -> None:
        """Fix mean and deviation to those of (n, in_features) features; see ``Buffer.calibrate``."""
        super().calibrate(features)
        if self.is_calibrated:
            raise ValueError("mean and deviation are fixed already; features expanded with others would not fit")
        values = features.double()
        deviation = values.std(dim=0, correction=0)
        typical = float(deviation.median()) or float(deviation.max()) or 1.0
        self.mean.copy_(values.mean(dim=0))
        spread = torch.where(deviation < CONSTANT_SHARE * typical, typical, deviation)
        self.deviation.copy_(spread.clamp(min=torch.finfo(torch.float32).tiny))

    def forward(self, features: Tensor) -> Tensor:
        """(n, in_features) to (n, dim), both float32."""
        standardised = (features - self.mean) / self.deviation
        return torch.cos(standardised @ self.projection + self.offset)
