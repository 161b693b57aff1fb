"""LogitNorm: the loss of logits without their norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from acil.losses.loss import check_tau

# Keeps zero logits zero.
EPSILON = 1e-7


def normalise_logits(logits: Tensor, tau: float) -> Tensor:
    """``z / (tau * (||z||_2 + 1e-7))``.

    Args:
        logits: (..., K) floating point, finite; half precision comes back as float32.
        tau: temperature, above 0.

    References:
        Wei et al., "Mitigating neural network overconfidence with logit normalization", ICML 2022, equation 5.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # In units of the largest entry, so that the norm of huge logits does not overflow.
    unit = logits.detach().abs().amax(dim=-1, keepdim=True).clamp_min(1.0)
    relative = logits / unit
    zero = (relative == 0).all(dim=-1, keepdim=True)  # where the norm has no gradient
    norm = torch.linalg.vector_norm(torch.where(zero, torch.ones_like(relative), relative), dim=-1, keepdim=True)
    normalised: Tensor = relative / (tau * (norm + EPSILON / unit))
    return normalised


class LogitNorm(nn.Module):
    """A criterion behind normalised logits; confidence on foreign images does not grow with the norm.

    Use it for training only: scores of foreign images are taken from the logits themselves.

    Args:
        criterion: maps logits and labels to a loss; None for cross-entropy.
        tau: temperature, 1e-6 to 1e6; smaller for more classes.

    Raises:
        ValueError: ``tau`` is out of range.

    References:
        Wei et al., ICML 2022; see :func:`normalise_logits`.
    """

    def __init__(self, criterion: nn.Module | None = None, *, tau: float = 0.04) -> None:
        super().__init__()
        check_tau(tau)
        self.criterion = criterion or nn.CrossEntropyLoss()
        self.tau = tau

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of logits (n, K) and labels (n,)."""
        loss: Tensor = self.criterion(normalise_logits(logits, self.tau), labels)
        return loss
