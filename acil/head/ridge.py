"""The one place that solves (A + gamma I) W = C."""

from __future__ import annotations

import torch
from torch import Tensor

from acil.errors import SingularMomentsError


def solve_ridge(autocorrelation: Tensor, cross_correlation: Tensor, scale: float, gamma: float) -> Tensor:
    """The ridge weights of quantised features ``phi = scale * z``, by one Cholesky factorisation in float64.

    ``W = (phi^T phi + gamma I)^-1 phi^T Y`` (Zhuang et al., NeurIPS 2022, eq. 5) with ``phi^T phi = scale^2 A`` and
    ``phi^T Y = scale C^T``. A function of its arguments alone: equal moments give equal weights on one machine,
    bit for bit.

    Args:
        autocorrelation: A, (d, d) int64, of which the upper triangle is read.
        cross_correlation: C, (K, d) int64.
        scale: the quantiser's step, above 0.
        gamma: ridge, above 0, in the units of the unquantised features.

    Returns:
        W, (d, K) float64.

    Raises:
        SingularMomentsError: gamma is too small for float64 beside the moments.
    """
    matrix = autocorrelation.double()
    matrix *= scale * scale
    diagonal = matrix.diagonal()
    largest = float(diagonal.max())
    diagonal += gamma
    factor, info = torch.linalg.cholesky_ex(matrix, upper=True)
    del matrix
    if int(info):
        raise SingularMomentsError(
            f"the moments plus gamma = {gamma:g} are numerically singular (largest moment {largest:.3g}); "
            f"use a gamma of {largest * len(factor) * torch.finfo(torch.float64).eps:.1g} or more"
        )
    return torch.cholesky_solve(cross_correlation.t().double() * scale, factor, upper=True)
