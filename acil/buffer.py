"""The fixed layers between backbone and head: random expansion and quantisation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from acil.checks import check_count, check_finite

# Values looked at for the scale; a quantile of more gives the same step to three digits.
CALIBRATION_VALUES = 4_000_000
# Clipping one value in ten thousand buys a finer step for all others.
CALIBRATION_QUANTILE = 0.9999
# Rows rounded at a time: few enough to stay in the processor's cache from one operation to the next.
CACHED_ROWS = 128


class RandomBuffer(nn.Module):
    """The paper's buffer layer: ``phi = relu(f W_B)`` with a random matrix W_B that is never trained.

    Args:
        in_features: width of a feature.
        dim: width d of an expanded feature.
        seed: fixes W_B; entries are uniform within +-1/sqrt(in_features), as in the authors' code.

    References:
        Zhuang et al., NeurIPS 2022, eq. 4.
    """

    projection: Tensor

    def __init__(self, in_features: int, dim: int, seed: int = 0) -> None:
        super().__init__()
        check_count(in_features, "in_features")
        check_count(dim, "dim")
        self.in_features = in_features
        self.dim = dim
        self.seed = seed
        generator = torch.Generator().manual_seed(seed)
        uniform = torch.rand(in_features, dim, generator=generator)
        self.register_buffer("projection", (2 * uniform - 1) / in_features**0.5)

    def forward(self, features: Tensor) -> Tensor:
        """(n, in_features) to (n, dim), both float32."""
        return torch.relu_(features @ self.projection)


class Quantizer(nn.Module):
    """Rounds expanded features to int8: ``z = clamp(round(phi / scale), -127, 127)``.

    The scale is calibrated once, on features of the base phase, and saved with the model; were it to move, integer
    moments of different phases could not be added.

    Attributes:
        scale: () float64, the step; 0 until calibrated.
        clipped: () int64, how many learned values lay beyond the largest step.
        quantized: () int64, how many values were learned in all.
    """

    scale: Tensor
    clipped: Tensor
    quantized: Tensor
    levels = 127
    # Steps that float32 holds, and whose squares float64 holds with room for sums.
    smallest, largest = 1e-37, 1e37

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.zeros((), dtype=torch.float64))
        self.register_buffer("clipped", torch.zeros((), dtype=torch.int64))
        self.register_buffer("quantized", torch.zeros((), dtype=torch.int64))

    @property
    def is_calibrated(self) -> bool:
        """Whether the scale is fixed."""
        return bool(self.scale > 0)

    @property
    def clipped_share(self) -> float:
        """Share of all learned values that were clipped, in 0..1."""
        return float(self.clipped) / max(1, int(self.quantized))

    @torch.no_grad()
    def calibrate(self, features: Tensor) -> None:
        """Fix the scale so that all but one in ten thousand of these (n, d) values fit.

        Raises:
            ValueError: it is fixed already, or there is no finite value to fit, or values are too large to square.
        """
        if self.is_calibrated:
            raise ValueError("the scale is fixed already; moments of two scales cannot be added")
        check_finite(features, "features")
        if not features.numel():
            raise ValueError("calibration needs at least one feature row, got none")
        values = features.flatten()[:: max(1, features.numel() // CALIBRATION_VALUES)].abs().double().cpu()
        rank = max(1, round(CALIBRATION_QUANTILE * len(values)))
        step = float(values.kthvalue(rank).values) / self.levels
        if step < self.smallest:
            step = float(features.abs().max()) / self.levels
        if step > self.largest:
            raise ValueError(f"features of up to {step * self.levels:.3g} are too large to square; scale them down")
        self.scale.fill_(step if step >= self.smallest else 1.0)

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        """(n, d) floating point to (n, d) int8."""
        features, step = self._comparable(features)
        parts = [
            (part / step).round_().clamp_(-self.levels, self.levels).to(torch.int8)
            for part in torch.split(features, CACHED_ROWS)
        ]
        return torch.cat(parts)

    def count_clipped(self, features: Tensor) -> None:
        """Add these learned values to the count behind ``clipped_share``."""
        features, step = self._comparable(features)
        for part in torch.split(features, CACHED_ROWS):
            self.clipped += torch.count_nonzero(part.abs() > step * (self.levels + 0.5))
        self.quantized += features.numel()

    def _comparable(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features and step in one dtype; half precision cannot hold a small step."""
        dtype = torch.promote_types(features.dtype, torch.float32)
        return features.to(dtype), self.scale.to(dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Quantizer:
        """Moves as any module does, but keeps the scale's bits when ``half()`` and the like cast the learner."""
        scale = self.scale
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.scale = scale.to(self.scale.device)
        return self
