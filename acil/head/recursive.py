"""The recursive head: the paper's recursion in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from acil.head.base import AnalyticHead
from acil.head.growing import GrowingState

# The (n, n) system costs n^2 d + n^3 beside the n d^2 of the update: larger batches are split.
MAX_ROWS = 1_024


class RecursiveHead(GrowingState, AnalyticHead):
    """Recursive least squares: weights are up to date after every batch, at O(n d^2) for n rows.

    Use it for streams that predict after every few samples. Equal to the joint solution up to float64 rounding, not
    to the bit, and it neither forgets nor merges: that is ``ExactHead``.

    Args:
        dim: width d of an expanded feature.
        gamma: ridge, above 0.

    Attributes:
        inverse: R, (d, d) float64, ``(sum phi^T phi + gamma I)^-1``.

    References:
        Zhuang et al., NeurIPS 2022, theorem 3.1; mixed old and new classes as in Zhuang et al., "GACL", NeurIPS 2024.
    """

    inverse: Tensor
    growing = ("_weight", "_classes", "_counts")

    def __init__(self, dim: int, gamma: float = 0.1) -> None:
        super().__init__(dim, gamma)
        self.register_buffer("inverse", torch.eye(dim, dtype=torch.float64) / gamma)
        self.register_buffer("_weight", torch.zeros(dim, 0, dtype=torch.float64))
        self.register_buffer("_classes", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("_counts", torch.zeros(0, dtype=torch.int64))

    @property
    def classes(self) -> Tensor:
        """(K,) int64: the labels learned, ascending."""
        return self._classes

    @property
    def counts(self) -> Tensor:
        """(K,) int64: samples learned of each class."""
        return self._counts

    @property
    def weight(self) -> Tensor:
        """(d, K) float64, always up to date."""
        return self._weight

    def learn(self, features: Tensor, labels: Tensor) -> None:
        """Update the weights; see ``AnalyticHead.learn``."""
        self._check_samples(features, labels)
        if self.inverse.dtype != torch.float64:
            raise ValueError(
                f"the recursion needs float64, but the head was cast to {self.inverse.dtype}; call head.double() "
                "before any learning, or cast only the backbone"
            )
        labels = labels.to(self._classes.device).long()
        for rows, targets in zip(features.split(MAX_ROWS), labels.split(MAX_ROWS), strict=True):
            if len(rows):
                self._update(rows.double(), targets)

    def fresh(self) -> RecursiveHead:
        """A head with the same gamma that has learned nothing."""
        return RecursiveHead(self.dim, self.gamma).to(self.inverse.device)

    def _update(self, rows: Tensor, labels: Tensor) -> None:
        present = torch.unique(labels)
        self._widen(present[~torch.isin(present, self._classes)])
        columns = torch.searchsorted(self._classes, labels)

        # R <- R - R phi^T (I + phi R phi^T)^-1 phi R, with R phi^T multiplied once and the inverse as a factor L L^T:
        # with V = L^-1 phi R the update is R - V^T V.
        projected = rows @ self.inverse  # phi R, (n, d)
        system = projected @ rows.t()  # (n, n)
        system.diagonal().add_(1.0)
        factor = torch.linalg.cholesky(system)
        halved = torch.linalg.solve_triangular(factor, projected, upper=False)  # V, (n, d)
        self.inverse.addmm_(halved.t(), halved, alpha=-1.0)

        # W <- [W 0] + R phi^T (Y - phi [W 0]) with the new R, for which R phi^T = V^T L^-1.
        residual = -(rows @ self._weight)  # (n, K)
        residual[torch.arange(len(rows)), columns] += 1.0
        self._weight += halved.t() @ torch.linalg.solve_triangular(factor, residual, upper=False)
        self._counts += torch.bincount(columns, minlength=len(self._classes))

    def _widen(self, unseen: Tensor) -> None:
        if not len(unseen):
            return
        self._classes, order = torch.sort(torch.cat([self._classes, unseen]))
        self._counts = torch.cat([self._counts, torch.zeros_like(unseen)])[order]
        zeros = self._weight.new_zeros(self.dim, len(unseen))
        self._weight = torch.cat([self._weight, zeros], dim=1)[:, order]
