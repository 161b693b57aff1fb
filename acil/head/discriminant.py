"""Linear discriminant analysis from the moments of ridge regression."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from acil.head.exact import ExactHead
from acil.head.ridge import RidgeSolution


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
        sums = float(self.quantizer.scale) * self.moments.cross_correlation.double()
        return replace(ridge, weight=ridge.weight @ discriminants(sums @ ridge.weight, self.moments.counts))


def discriminants(fitted: Tensor, counts: Tensor) -> Tensor:
    """The map from the K fitted values of ridge regression to discriminants.

    With class sums C (K, d), counts n and the ridge solution W, the scatter within classes is ``S = A - C^T N^-1 C``
    for ``N = diag(n)``, and ``(S + gamma I)^-1 C^T N^-1 = W (N - C W)^-1``. The constant of a class, half its mean's
    own discriminant, is carried by the fitted values, which sum up to 1 for each sample, but for what gamma takes.

    Args:
        fitted: C W, (K, K) float64: the fitted values summed over the samples of each class.
        counts: n, (K,).

    Returns:
        (K, K) float64; the rows' means are 0, which shifts all logits of a sample alike.
    """
    sizes = counts.double()
    scores = torch.linalg.inv(torch.diag(sizes) - fitted)
    constants = (scores.diagonal() - 1 / sizes) / 2
    scores = sizes.sum() * (scores - constants)
    centred: Tensor = scores - scores.mean(dim=1, keepdim=True)
    return centred
