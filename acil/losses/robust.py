"""Losses that bound what a wrong label can do. ``p`` is the probability of the label, ``K`` the number of classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from acil.checks import check_count, check_positive
from acil.losses.loss import Loss, of_labels

# What stands for log 0, as in the paper of the symmetric cross-entropy.
LOG_ZERO = -4.0


class MAE(Loss):
    """Mean absolute error ``2 (1 - p)``: symmetric, slow to fit (Ghosh et al., AAAI 2017)."""

    def of_each(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Loss`."""
        return -2 * torch.expm1(of_labels(log_probabilities, labels))


class GCE(Loss):
    """Generalised cross-entropy ``(1 - p^q) / q``: cross-entropy for q to 0, MAE for q = 1.

    Args:
        q: in 0..1, without 0.
        reduction: "mean", "sum" or "none".

    References:
        Zhang and Sabuncu, NeurIPS 2018, equation 6.
    """

    def __init__(self, q: float = 0.7, reduction: str = "mean") -> None:
        super().__init__(reduction)
        check_positive(q, "q")
        if q > 1:
            raise ValueError(f"q must be at most 1, got {q!r}")
        self.q = q

    def of_each(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Loss`."""
        return -torch.expm1(self.q * of_labels(log_probabilities, labels)) / self.q


class RCE(Loss):
    """Reverse cross-entropy ``4 (1 - p)``, where log 0 counts as -4 (Wang et al., ICCV 2019, equation 6)."""

    def of_each(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Loss`."""
        return LOG_ZERO * torch.expm1(of_labels(log_probabilities, labels))


class SCE(Loss):
    """Symmetric cross-entropy: ``alpha`` times cross-entropy plus ``beta`` times its reverse.

    Args:
        alpha: weight of the cross-entropy, above 0.
        beta: weight of the reverse, above 0.
        reduction: "mean", "sum" or "none".

    References:
        Wang et al., ICCV 2019, equation 7.
    """

    def __init__(self, alpha: float = 0.5, beta: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        check_positive(alpha, "alpha")
        check_positive(beta, "beta")
        self.alpha, self.beta = alpha, beta

    def of_each(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Loss`."""
        log_p = of_labels(log_probabilities, labels)
        return -self.alpha * log_p + self.beta * LOG_ZERO * torch.expm1(log_p)


class TaylorCE(Loss):
    """Cross-entropy's Taylor series, cut off: ``sum over i = 1..order of (1 - p)^i / i``.

    Args:
        order: 1 for half of MAE, larger is closer to cross-entropy.
        reduction: "mean", "sum" or "none".

    References:
        Feng et al., IJCAI 2020, equation 7.
    """

    def __init__(self, order: int = 2, reduction: str = "mean") -> None:
        super().__init__(reduction)
        check_count(order, "order")
        self.order = order

    def of_each(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Loss`."""
        miss = -torch.expm1(of_labels(log_probabilities, labels))
        return torch.stack([miss**i / i for i in range(1, self.order + 1)]).sum(dim=0)


class PHuberCE(Loss):
    """Partially Huberised cross-entropy: linear, ``-tau p + log tau + 1``, where ``p <= 1 / tau``.

    Args:
        tau: above 1; the largest gradient with respect to p.
        reduction: "mean", "sum" or "none".

    References:
        Menon et al., ICLR 2020, equation 8.
    """

    def __init__(self, tau: float = 10.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        check_positive(tau, "tau")
        if tau <= 1:
            raise ValueError(f"tau must be above 1, got {tau!r}")
        self.tau = tau

    def of_each(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Loss`."""
        log_p = of_labels(log_probabilities, labels)
        linear = -self.tau * log_p.exp() + math.log(self.tau) + 1
        return torch.where(log_p > -math.log(self.tau), -log_p, linear)


class Focal(Loss):
    """Focal loss ``-(1 - p)^gamma log p``: less weight on what is fitted already.

    Args:
        gamma: 0 for cross-entropy; at least 1 otherwise keeps gradients finite at p = 1.
        reduction: "mean", "sum" or "none".

    References:
        Lin et al., ICCV 2017, equation 4.
    """

    def __init__(self, gamma: float = 2.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        if isinstance(gamma, bool) or not (gamma == 0 or 1 <= gamma < math.inf):
            raise ValueError(f"gamma must be 0, or finite and at least 1, got {gamma!r}")
        self.gamma = gamma

    def of_each(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Loss`."""
        log_p = of_labels(log_probabilities, labels)
        return -((-torch.expm1(log_p)) ** self.gamma) * log_p
