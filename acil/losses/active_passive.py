"""Active losses, which raise the label's probability, beside passive ones, which lower the others' as well."""

from __future__ import annotations

from torch import Tensor

from acil.checks import check_positive
from acil.losses.loss import Loss, of_labels


class NCE(Loss):
    """Normalised cross-entropy ``log p_y / sum_k log p_k``: symmetric, in 0..1 (Ma et al., ICML 2020, equation 7)."""

    def of_each(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Loss`.

        Raises:
            ValueError: there is one class alone, and so nothing to normalise by.
        """
        if log_probabilities.shape[1] < 2:
            raise ValueError("NCE needs logits of two classes at least, got one; choose another loss")
        return of_labels(log_probabilities, labels) / log_probabilities.sum(dim=1)


class ActivePassive(Loss):
    """``alpha`` times an active loss plus ``beta`` times a passive one.

    Args:
        active: such as :class:`NCE`; its own reduction does not count.
        passive: such as MAE, RCE, AGCE or AUL; its own reduction does not count.
        alpha: above 0.
        beta: above 0.
        reduction: "mean", "sum" or "none".

    References:
        Ma et al., "Normalized loss functions for deep learning with noisy labels", ICML 2020, equation 10.
    """

    def __init__(
        self, active: Loss, passive: Loss, alpha: float = 1.0, beta: float = 1.0, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        check_positive(alpha, "alpha")
        check_positive(beta, "beta")
        self.active, self.passive = active, passive
        self.alpha, self.beta = alpha, beta

    def of_each(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """See :class:`Loss`."""
        active = self.active.of_each(log_probabilities, labels)
        return self.alpha * active + self.beta * self.passive.of_each(log_probabilities, labels)
