"""LogitClip: logits of bounded norm, and with them a bounded loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from acil.losses.loss import check_tau

NORMS = (1.0, 2.0, float("inf"))


def clip_logits(logits: Tensor, tau: float, p: float = 2.0) -> Tensor:
    """``z * min(1, tau / ||z||_p)``: logits within the ball stay as they are, others move to its surface.

    Args:
        logits: (..., K) floating point, finite; half precision comes back as float32.
        tau: the largest norm, above 0.
        p: order of the norm: 1, 2 or infinity.

    References:
        Wei et al., "Mitigating memorization of noisy labels by clipping the model prediction", ICML 2023. Their code
        compares with another threshold than it clips to; this is the formula of the paper.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # Relative to the largest entry, so that the norm of huge logits does not overflow.
    largest = logits.detach().abs().amax(dim=-1, keepdim=True).clamp_min(tau)
    relative = logits / largest
    norm = torch.linalg.vector_norm(relative, ord=p, dim=-1, keepdim=True)
    outside = norm > tau / largest
    # Where nothing is clipped the norm may be zero, whose gradient must not reach the result.
    safe = torch.where(outside, norm, torch.ones_like(norm))
    return torch.where(outside, relative * (tau / safe), logits)


def check_norm(p: float) -> None:
    """Refuse any order of a norm but 1, 2 and infinity.

    Raises:
        ValueError: quotes it.
    """
    if isinstance(p, bool) or p not in NORMS:
        raise ValueError(f"p must be 1, 2 or infinity, got {p!r}")


class LogitClip(nn.Module):
    """A criterion behind clipped logits; wrong labels cannot be fitted without end.

    Use it for training only: clipping changes no prediction, but confidences.

    Args:
        criterion: maps logits and labels to a loss; None for cross-entropy.
        tau: the largest norm, 1e-6 to 1e6: smaller is more robust and fits less.
        p: order of the norm: 1, 2 or infinity.

    Raises:
        ValueError: ``tau`` or ``p`` is out of range.

    References:
        Wei et al., ICML 2023; see :func:`clip_logits`.
    """

    def __init__(self, criterion: nn.Module | None = None, *, tau: float = 1.0, p: float = 2.0) -> None:
        super().__init__()
        check_tau(tau)
        check_norm(p)
        self.criterion = criterion or nn.CrossEntropyLoss()
        self.tau, self.p = tau, p

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of logits (n, K) and labels (n,)."""
        loss: Tensor = self.criterion(clip_logits(logits, self.tau, self.p), labels)
        return loss
