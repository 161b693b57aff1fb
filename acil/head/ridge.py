"""The one place that solves (A + gamma I) W = C, and chooses gamma."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from acil.errors import IllConditionedWarning, SingularMomentsError
from acil.head.cholesky import CholeskyFactor

if TYPE_CHECKING:
    from acil.head.moments import FeatureMoments

EPSILON = torch.finfo(torch.float64).eps

# Weights with a larger relative error deserve a warning: float32 predictions would start to show it.
TOLERATED_ERROR = 1e-6

# Of the trace: with a gamma of this share the estimated error is at most half of what is tolerated.
SAFE_SHARE = 4 * EPSILON / TOLERATED_ERROR

# Random directions that the estimated error is averaged over; more change it by less than a third.
PROBES = 4

# Where the search starts, as a share of the mean eigenvalue: near to where it ends on images.
TYPICAL_SHARE = 0.03

# Of the ridge of least squared error, what classifies best: within 0.3 points of the best decade on every data set
# and buffer layer tried (glyphs, Tiny-ImageNet, Caltech-101), where the minimiser itself lost up to 1.3 points.
CLASSIFIERS_SHARE = 0.1


@dataclass(frozen=True)
class RidgeSolution:
    """Ridge weights, and what else the factor tells.

    Attributes:
        weight: W, (d, K) float64.
        gamma: the ridge, in the units of the unquantised features.
        scale: the quantiser's step.
        factor: of ``A + gamma / scale^2 I``.
        error: estimated relative error of the weights.
    """

    weight: Tensor
    gamma: float
    scale: float
    factor: CholeskyFactor
    error: float

    def leverage(self, features: Tensor) -> Tensor:
        """``phi (phi^T phi + gamma I)^-1 phi^T`` of each of (n, d) rows: (n,) float64 of 0 or more."""
        rows = features.t().double() / self.scale
        return self.factor.whiten(rows).square().sum(dim=0)


def solve_ridge(moments: FeatureMoments, scale: float, gamma: float) -> RidgeSolution:
    """The ridge weights of quantised features ``phi = scale * z``, by one Cholesky factorisation in float64.

    ``W = (phi^T phi + gamma I)^-1 phi^T Y`` (Zhuang et al., NeurIPS 2022, eq. 5) with ``phi^T phi = scale^2 A`` and
    ``phi^T Y = scale C^T``. A function of its arguments alone: equal moments give equal weights on one machine,
    bit for bit. Beside the moments one (d, d) float64 matrix is alive.

    Args:
        moments: A and C, of samples of at least one class.
        scale: the quantiser's step, above 0.
        gamma: ridge, above 0, in the units of the unquantised features.

    Raises:
        SingularMomentsError: gamma is too small for float64 beside the moments.

    Warns:
        IllConditionedWarning: the weights may be wrong in the sixth digit or before.
    """
    return solve_targets(moments, moments.cross_correlation, scale, gamma)


def solve_targets(moments: FeatureMoments, targets: Tensor, scale: float, gamma: float) -> RidgeSolution:
    """As ``solve_ridge``, for a cross-correlation (K, d) of rows z with other targets than one-hot labels."""
    factor = CholeskyFactor(regularised(moments, gamma / scale**2))
    trace = float(moments.autocorrelation.diagonal().sum())  # close to the largest eigenvalue, and never below it
    enough = f"use a gamma of {SAFE_SHARE * scale**2 * trace:.1g} or more, or gamma='auto'"
    if factor.info:
        raise SingularMomentsError(f"the moments plus gamma = {gamma:g} are numerically singular; {enough}")
    weight = factor.solve(targets.t().double()) / scale
    error = _estimated_error(moments, factor, weight)
    if error > TOLERATED_ERROR:
        warnings.warn(
            f"the solve with gamma = {gamma:g} is ill-conditioned: weights may have a relative error of {error:.1g}; "
            f"{enough}",
            IllConditionedWarning,
            stacklevel=2,
        )
    return RidgeSolution(weight, gamma, scale, factor, error)


def choose_gamma(moments: FeatureMoments, scale: float, share: float = CLASSIFIERS_SHARE) -> float:
    """A share of the ridge of least generalised cross-validation error, from the moments alone.

    ``GCV(gamma) = (RSS / n) / (1 - dof / n)^2`` with ``dof = d - gamma tr((A + gamma I)^-1)`` and, for one-hot
    targets and weights that solve the ridge system, ``RSS = n - tr(W^T C) - gamma |W|^2``. Decades are tried downhill
    until the error rises again; a parabola through the three best places the minimum. The squared error of one-hot
    targets counts shrinkage as an error, which the largest logit does not feel: the choice is a share of the
    minimiser, but never so small that the solve is ill-conditioned.

    Args:
        moments: A and C, of samples of at least one class.
        scale: the quantiser's step, above 0.
        share: of the minimiser.

    Returns:
        gamma, in the units of the unquantised features: a function of the moments and the scale alone.

    References:
        Golub, Heath and Wahba, "Generalized Cross-Validation as a Method for Choosing a Good Ridge Parameter",
        Technometrics 1979.
    """
    trace = scale**2 * float(moments.autocorrelation.diagonal().sum())
    if not trace:
        return 1.0  # every ridge gives the same weights: zero
    errors: dict[int, float] = {}

    def error(decade: int) -> float:
        if decade not in errors:
            errors[decade] = cross_validation_error(moments, scale, 10.0**decade)
        return errors[decade]

    lowest, highest = math.ceil(math.log10(SAFE_SHARE * trace)), math.floor(math.log10(trace))
    best = min(max(round(math.log10(TYPICAL_SHARE * trace / moments.dim)), lowest), highest)
    step = 1 if best < highest and error(best + 1) < error(best) else -1
    while lowest <= best + step <= highest and error(best + step) < error(best):
        best += step
    offset = _vertex(error(best - 1), error(best), error(best + 1)) if lowest < best < highest else 0.0
    chosen = max(share * math.pow(10.0, best + offset), SAFE_SHARE * trace)
    return float(f"{chosen:.3g}")  # the digits that mean something, whatever the last bits of the solves were


def cross_validation_error(moments: FeatureMoments, scale: float, gamma: float) -> float:
    """GCV of one gamma; infinite where the system is numerically singular or every degree of freedom is used up."""
    ridge = gamma / scale**2
    factor = CholeskyFactor(regularised(moments, ridge))
    if factor.info:
        return math.inf
    right = moments.cross_correlation.t().double()
    weight = factor.solve(right)
    residual = moments.samples - float((weight * right).sum()) - ridge * float(weight.square().sum())
    freedom = moments.samples - moments.dim + ridge * factor.inverse_trace()
    if residual <= 0 or freedom <= 0:
        return math.inf
    return moments.samples * residual / freedom**2


def regularised(moments: FeatureMoments, ridge: float) -> Tensor:
    """``A + ridge I``, (d, d) float64."""
    matrix = moments.autocorrelation.double()
    matrix.diagonal().add_(ridge)
    return matrix


def _estimated_error(moments: FeatureMoments, factor: CholeskyFactor, weight: Tensor) -> float:
    """The relative error, in the Frobenius norm, that rounding leaves in the weights W.

    Rounding changes entry (i, j) of A by about ``EPSILON sqrt(a_i a_j)``, with a the diagonal of A; a random change of
    that size changes W by about ``EPSILON |M^-1 D| |D W|`` with ``D = diag(sqrt(a))``. |M^-1 D| comes from a few random
    directions. The factor 2 is from measurements: without it the estimate is 0.7 to 10 times the true error.
    """
    roots = moments.autocorrelation.diagonal().double().sqrt()[:, None]
    probes = torch.randn(len(roots), PROBES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gain = torch.linalg.vector_norm(factor.solve(roots * probes.to(roots.device))) / math.sqrt(PROBES)
    norm = torch.linalg.vector_norm(weight)
    return 2 * EPSILON * (1 + float(gain * torch.linalg.vector_norm(roots * weight) / norm)) if norm else 0.0


def _vertex(before: float, here: float, after: float) -> float:
    """Where the parabola through (-1, before), (0, here), (1, after) has its minimum, in logarithms of the errors."""
    if math.isinf(before) or math.isinf(after):
        return 0.0
    left, right = math.log(before / here), math.log(after / here)
    return 0.5 * (left - right) / (left + right) if left + right > 0 else 0.0
