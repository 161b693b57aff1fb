"""What all losses have in common: a value for each sample, and how values become one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REDUCTIONS = ("mean", "sum", "none")


class Loss(nn.Module):
    """A loss of logits and labels; a subclass says which.

    Args:
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: there is no such reduction.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
        self.reduction = reduction

    def of_each(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """(n,) losses of log-probabilities (n, K) and labels (n,)."""
        raise NotImplementedError

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of logits (n, K), finite, and labels (n,) int64: (), or (n,) without reduction.

        Raises:
            ValueError: shapes or dtypes are others.
        """
        if logits.ndim != 2 or not logits.is_floating_point():
            raise ValueError(f"logits must be floating point (n, K), got {logits.dtype} of {tuple(logits.shape)}")
        if labels.shape != logits.shape[:1] or labels.dtype != torch.int64:
            raise ValueError(
                f"labels must be int64 of shape ({len(logits)},), got {labels.dtype} of shape {tuple(labels.shape)}"
            )
        losses = self.of_each(F.log_softmax(logits, dim=1, dtype=_at_least_single(logits.dtype)), labels)
        if self.reduction == "none":
            return losses
        return losses.mean() if self.reduction == "mean" else losses.sum()


def check_tau(tau: float) -> None:
    """Refuse scales of logits at which float32 or its gradients could overflow: all but 1e-6 to 1e6.

    Raises:
        ValueError: quotes it.
    """
    if isinstance(tau, bool) or not isinstance(tau, (int, float)) or not 1e-6 <= tau <= 1e6:
        raise ValueError(f"tau must be a number from 1e-6 to 1e6, got {tau!r}")


def of_labels(values: Tensor, labels: Tensor) -> Tensor:
    """(n,) entries of (n, K) at the labels (n,)."""
    return values.gather(1, labels[:, None]).squeeze(1)


def _at_least_single(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
