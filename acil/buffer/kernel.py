"""Gaussian kernels around base-phase features: the buffer layer of GKEAL."""

from __future__ import annotations

import torch
from torch import Tensor

from acil.buffer.buffer import Buffer


class GaussianKernelBuffer(Buffer):
    """``phi_j = exp(-|f - c_j|^2 / (2 sigma^2))`` with centres c_j drawn from the first features learned.

    The published width of 5 to 15 belongs to one network's features; here sigma is the root mean square distance
    of a feature from its centres, so the scale of a backbone's features does not matter. Where fewer features than
    centres are learned first, further centres lie between random pairs of them.

    Args:
        in_features: width of a feature.
        dim: number of centres.
        seed: fixes which features become centres.

    Attributes:
        centres: (dim, in_features) float32, fixed by ``calibrate``.
        sigma: () float32, the kernels' width; 0 until calibrated.

    References:
        Zhuang et al., "GKEAL: Gaussian Kernel Embedded Analytic Learning for Few-Shot Class Incremental Task",
        CVPR 2023.
    """

    name = "gaussian-kernel"
    centres: Tensor
    sigma: Tensor

    def __init__(self, in_features: int, dim: int, seed: int = 0) -> None:
        super().__init__(in_features, dim, seed)
        self.register_buffer("centres", torch.zeros(dim, in_features))
        self.register_buffer("sigma", torch.zeros(()))

    @property
    def is_calibrated(self) -> bool:
        """Whether centres and width are fixed."""
        return bool(self.sigma > 0)

    def calibrate(self, features: Tensor) -> None:
        """Draw the centres from (n, in_features) features, and fix the width; see ``Buffer.calibrate``."""
        super().calibrate(features)
        if self.is_calibrated:
            raise ValueError("the centres are fixed already; features expanded with others would not fit")
        generator = self._generator()
        rows = features.detach().float().cpu()
        drawn = rows[torch.randperm(len(rows), generator=generator)[: self.dim]]
        missing = self.dim - len(drawn)
        if missing:
            pairs = torch.randint(len(rows), (2, missing), generator=generator)
            share = torch.rand(missing, 1, generator=generator)
            drawn = torch.cat([drawn, share * rows[pairs[0]] + (1 - share) * rows[pairs[1]]])
        self.centres.copy_(drawn)
        # Twice the total variance is the mean squared distance between two of the features.
        self.sigma.fill_(float(2 * drawn.double().var(dim=0, correction=0).sum()) ** 0.5 or 1.0)

    def forward(self, features: Tensor) -> Tensor:
        """(n, in_features) to (n, dim), both float32."""
        squared = features.square().sum(dim=1, keepdim=True) - 2 * features @ self.centres.t()
        squared += self.centres.square().sum(dim=1)
        return torch.exp_(squared.clamp_(min=0).mul_(-0.5 / self.sigma.square()))
