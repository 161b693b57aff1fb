"""Linear discriminant analysis from the moments of ridge regression."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import torch
from torch import Tensor

from acil.errors import IllConditionedWarning, SingularMomentsError
from acil.head.exact import ExactHead
from acil.head.ridge import EPSILON, TOLERATED_ERROR, RidgeSolution


class DiscriminantHead(ExactHead):
    """Classes as Gaussians of one covariance, from the very integers that ``ExactHead`` keeps.

    Ridge regression on one-hot labels ranks classes by how often they come and lets a class be masked by its
    neighbours; discriminant analysis does neither. Use it where there are many classes, or classes of unequal size.
    Exactness, ``forget``, ``merge`` and ``digest`` are those of ``ExactHead``. Logits are log posteriors with equal
    priors, up to a constant for each sample.

    Args:
        dim: width d of an expanded feature.
        gamma: added to the scatter within classes, above 0; "auto" takes the ridge of least cross-validation error,
            as shrunk fitted values do not harm discriminants.
        bits: 8 or 16.

    References:
        Hastie et al., "Flexible Discriminant Analysis by Optimal Scoring", JASA 1994: discriminant analysis is a
        small linear map of fitted values.
    """

    name = "discriminant"
    gamma_share = 1.0

    def _solve(self, gamma: float) -> RidgeSolution:
        ridge = super()._solve(gamma)
        fitted = float(self.quantizer.scale) * self.moments.cross_correlation.double() @ ridge.weight
        scores = discriminants(fitted, self.moments.counts)
        if not bool(scores.isfinite().all()):
            raise SingularMomentsError(
                f"with gamma = {gamma:g} nothing is left of the scatter within classes; use a larger gamma"
            )
        weight = ridge.weight @ scores
        error = ridge.error + _estimated_error(ridge, fitted, self.moments.counts, weight)
        if ridge.error <= TOLERATED_ERROR < error:
            warnings.warn(
                f"the scatter within classes hardly shows with gamma = {gamma:g}: weights may have a relative error of "
                f"{error:.1g}; use a larger gamma",
                IllConditionedWarning,
                stacklevel=2,
            )
        return replace(ridge, weight=weight, error=error)


def discriminants(fitted: Tensor, counts: Tensor) -> Tensor:
    """The map from the K fitted values of ridge regression to discriminants.

    With class sums C (K, d), counts n and the ridge solution W, the scatter within classes is ``S = A - C^T N^-1 C``
    for ``N = diag(n)``, and ``(S + gamma I)^-1 C^T N^-1 = W (N - C W)^-1``. The constant of a class, half its mean's
    own discriminant, is carried by the fitted values, which sum up to 1 for each sample, but for what gamma takes.

    Args:
        fitted: C W, (K, K) float64: the fitted values summed over the samples of each class.
        counts: n, (K,).

    Returns:
        (K, K) float64; the rows' means are 0, which shifts all logits of a sample alike. Not finite where the fit is
        perfect to the last digit.
    """
    sizes = counts.double()
    scores, _ = torch.linalg.inv_ex(torch.diag(sizes) - fitted)  # not finite where it is singular
    constants = (scores.diagonal() - 1 / sizes) / 2
    scores = sizes.sum() * (scores - constants)
    centred: Tensor = scores - scores.mean(dim=1, keepdim=True)
    return centred


def _estimated_error(ridge: RidgeSolution, fitted: Tensor, counts: Tensor, weight: Tensor) -> float:
    """The relative error of the weights from the digits that ``N - C W`` loses where the fit is near perfect.

    It is what a change of the fitted values by rounding, in random directions, does to the weights. Errors of the ridge
    solution add little: where it is ill-conditioned, they lie across the class sums. The factor 2 is from measurements
    against 60 digits.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(fitted.shape, generator=generator, dtype=torch.float64).to(fitted.device)
    moved = ridge.weight @ discriminants(fitted * (1 + 2 * EPSILON * noise), counts)
    norm = torch.linalg.vector_norm(weight)
    error = float(torch.linalg.vector_norm(moved - weight) / norm) if norm else 0.0
    return error if math.isfinite(error) else math.inf
