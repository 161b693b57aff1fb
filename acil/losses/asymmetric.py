"""Asymmetric losses, which fit the label that dominates (Zhou et al., ICML 2021, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from acil.checks import check_positive
from acil.losses.loss import Loss, of_labels


class AGCE(Loss):
    """Asymmetric generalised cross-entropy ``((a + 1)^q - (a + p)^q) / q``.

    Args:
        a: above 0.
        q: above 0.
        reduction: "mean", "sum" or "none".
    """

    def __init__(self, a: float = 6.0, q: float = 1.5, reduction: str = "mean") -> None:
        super().__init__(reduction)
        check_positive(a, "a")
        check_positive(q, "q")
        self.a, self.q = a, q

    def of_each(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Loss`."""
        p = of_labels(log_probabilities, labels).exp()
        loss: Tensor = ((self.a + 1) ** self.q - (self.a + p) ** self.q) / self.q
        return loss


class AUL(Loss):
    """Asymmetric unhinged loss ``((a - p)^q - (a - 1)^q) / q``.

    Args:
        a: above 1.
        q: above 0.
        reduction: "mean", "sum" or "none".
    """

    def __init__(self, a: float = 5.5, q: float = 3.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        check_positive(a, "a")
        check_positive(q, "q")
        if a <= 1:
            raise ValueError(f"a must be above 1, got {a!r}")
        self.a, self.q = a, q

    def of_each(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Loss`."""
        p = of_labels(log_probabilities, labels).exp()
        loss: Tensor = ((self.a - p) ** self.q - (self.a - 1) ** self.q) / self.q
        return loss


class AEL(Loss):
    """Asymmetric exponential loss ``exp(-p / a)``.

    Args:
        a: above 0.
        reduction: "mean", "sum" or "none".
    """

    def __init__(self, a: float = 2.5, reduction: str = "mean") -> None:
        super().__init__(reduction)
        check_positive(a, "a")
        self.a = a

    def of_each(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Loss`."""
        return torch.exp(-of_labels(log_probabilities, labels).exp() / self.a)
