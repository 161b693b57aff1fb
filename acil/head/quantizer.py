"""The last step of the frozen path: expanded features become integers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from acil.checks import check_values

# Values looked at for the scale; a quantile of more gives the same step to three digits.
CALIBRATION_VALUES = 4_000_000
# With 8 bits, clipping one value in ten thousand buys a finer step for all others.
CALIBRATION_QUANTILE = 0.9999
# 16 bits have steps to spare: values up to twice the largest of calibration fit.
HEADROOM = 2.0
# Rows rounded at a time on a CPU: few enough to stay in its cache from one operation to the next.
CACHED_ROWS = 128
# The largest integers: int8 without -128, and what two such digits in base 255 can hold.
LEVELS = {8: 127, 16: 127 * 255 + 127}


class Quantizer(nn.Module):
    """Rounds expanded features to integers: ``z = clamp(round(phi / scale), -levels, levels)``.

    The scale is calibrated once, on features of the base phase, and saved with the model; were it to move, integer
    moments of different phases could not be added.

    Args:
        bits: 8 for int8 rows of 127 levels; 16 for int16 rows of 32,512, at four times the cost of learning.

    Attributes:
        levels: the largest integer.
        scale: () float64, the step; 0 until calibrated.
        clipped: () int64, how many learned values lay beyond the largest step.
        quantized: () int64, how many values were learned in all.
    """

    scale: Tensor
    clipped: Tensor
    quantized: Tensor
    # Steps that float32 holds, and whose squares float64 holds with room for sums.
    smallest, largest = 1e-37, 1e37

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        if not isinstance(bits, int) or bits not in LEVELS:
            raise ValueError(f"bits must be 8 or 16, got {bits!r}")
        self.bits = bits
        self.levels = LEVELS[bits]
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
        """Fix the scale: with 8 bits all but one in ten thousand of these (n, d) values fit, with 16 twice the largest.

        Raises:
            ValueError: it is fixed already, these are no rows, or values are not finite or too large to square.
        """
        if self.is_calibrated:
            raise ValueError("the scale is fixed already; moments of two scales cannot be added")
        check_values(features, "features")
        if features.ndim != 2:
            raise ValueError(f"features must be rows of shape (n, d), got shape {tuple(features.shape)}")
        if not features.numel():
            raise ValueError("calibration needs at least one row of features, got none")
        step = self._largest_to_fit(features) / self.levels
        if step < self.smallest:
            step = float(features.abs().max()) / self.levels
        if step > self.largest:
            raise ValueError(f"features of up to {step * self.levels:.3g} are too large to square; scale them down")
        self.scale.fill_(step if step >= self.smallest else 1.0)

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        """(n, d) floating point to (n, d) int8, or int16 for 16 bits.

        Raises:
            ValueError: the scale is not fixed yet.
        """
        if not self.is_calibrated:
            raise ValueError("the scale is not fixed yet; call calibrate first")
        features, step = self._comparable(features)
        integers = torch.int8 if self.bits == 8 else torch.int16
        parts = [(part / step).round_().clamp_(-self.levels, self.levels).to(integers) for part in _parts(features)]
        return torch.cat(parts)

    def count_clipped(self, features: Tensor) -> None:
        """Add these learned values to the count behind ``clipped_share``."""
        features, step = self._comparable(features)
        for part in _parts(features):
            self.clipped += torch.count_nonzero(part.abs() > step * (self.levels + 0.5))
        self.quantized += features.numel()

    def _largest_to_fit(self, features: Tensor) -> float:
        if self.bits == 16:
            return HEADROOM * float(features.abs().max())
        stride = max(1, features.numel() // CALIBRATION_VALUES)
        while math.gcd(stride, features.shape[1]) > 1:  # or else some columns would never be looked at
            stride += 1
        values = features.flatten()[::stride].abs().double().cpu()
        rank = max(1, round(CALIBRATION_QUANTILE * len(values)))
        return float(values.kthvalue(rank).values)

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


def _parts(features: Tensor) -> tuple[Tensor, ...]:
    return (features,) if features.is_cuda else torch.split(features, CACHED_ROWS)
