"""The recursive head: the paper's recursion in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from acil.errors import SingularMomentsError
from acil.head.base import AnalyticHead, Gamma
from acil.head.growing import GrowingState
from acil.transaction import change_by_parts, uninterrupted

# The (n, n) system costs n^2 d + n^3 beside the n d^2 of the update: larger batches are split.
MAX_ROWS = 1_024

# Small updates are gathered and subtracted from R together: a sample then costs one pass over R instead of three.
PENDING_ROWS = 64

# Blocks of R that lie in the cache while they are mirrored.
BLOCK_WIDTH = 256

# The first rows shrink R from 1/gamma to 1/|phi|^2; with more between the two, float64 keeps less than three digits.
LARGEST_RATIO = 1e12


class RecursiveHead(GrowingState, AnalyticHead):
    """Recursive least squares: weights are up to date after every batch, at O(n d^2) for n rows.

    Use it for streams that predict after every few samples. Equal to the joint solution up to float64 rounding, not
    to the bit, and it neither forgets nor merges: that is ``ExactHead``.

    Args:
        dim: width d of an expanded feature.
        gamma: ridge, above 0.

    References:
        Zhuang et al., NeurIPS 2022, theorem 3.1; mixed old and new classes as in Zhuang et al., "GACL", NeurIPS 2024.
    """

    name = "recursive"
    gamma: float
    _settled: Tensor
    _pending: Tensor
    _weight: Tensor
    _classes: Tensor
    _counts: Tensor
    growing = ("_pending", "_weight", "_classes", "_counts")

    def __init__(self, dim: int, gamma: Gamma = 0.1) -> None:
        super().__init__(dim, gamma)
        if gamma == "auto":
            raise ValueError("the recursion starts from gamma, so it cannot be chosen later; give a number")
        self.register_buffer("_settled", torch.eye(dim, dtype=torch.float64) / gamma)
        self.register_buffer("_pending", torch.zeros(0, dim, dtype=torch.float64))
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
    def chosen_gamma(self) -> float:
        """The ridge."""
        return self.gamma

    @property
    def inverse(self) -> Tensor:
        """R, (d, d) float64: ``(sum phi^T phi + gamma I)^-1``."""
        self._settle()
        return self._settled

    @property
    def weight(self) -> Tensor:
        """(d, K) float64, always up to date."""
        return self._weight

    @torch.no_grad()
    def learn(self, features: Tensor, labels: Tensor) -> None:
        """Update the weights; see ``AnalyticHead.learn``.

        Raises:
            SingularMomentsError: gamma is too small for float64 beside these features; nothing has changed then.
        """
        self._check_samples(features, labels)
        if not len(features):
            return
        self._check_precision(features)
        labels = labels.to(self._classes.device).long()
        parts = zip(torch.split(features, MAX_ROWS), torch.split(labels, MAX_ROWS), strict=True)
        change_by_parts(self, parts, self._update)

    def fresh(self) -> RecursiveHead:
        """A head with the same gamma that has learned nothing."""
        return RecursiveHead(self.dim, self.gamma).to(self._classes.device)

    def _update(self, part: tuple[Tensor, Tensor]) -> None:
        with uninterrupted():
            self._learn_rows(part[0].double(), part[1])

    def _learn_rows(self, rows: Tensor, labels: Tensor) -> None:
        # R <- R - R phi^T (I + phi R phi^T)^-1 phi R, with R phi^T multiplied once and the inverse as a factor L L^T:
        # with V = L^-1 phi R the update is R - V^T V. R itself is what has settled, less what is pending likewise.
        projected = rows @ self._settled  # phi R, (n, d)
        if len(self._pending):
            projected.addmm_(rows @ self._pending.t(), self._pending, alpha=-1.0)
        system = projected @ rows.t()  # (n, n)
        system.diagonal().add_(1.0)
        factor, failed = torch.linalg.cholesky_ex(system)
        if int(failed) and len(rows) > 1:  # large and nearly equal rows: the first half takes the edge off the second
            for half, targets in zip(rows.chunk(2), labels.chunk(2), strict=True):
                self._learn_rows(half, targets)
            return
        halved = torch.linalg.solve_triangular(factor, projected, upper=False)  # V, (n, d)

        # W <- [W 0] + R phi^T (Y - phi [W 0]) with the new R, for which R phi^T = V^T L^-1.
        present = torch.unique(labels)
        self._widen(present[~torch.isin(present, self._classes)])
        columns = torch.searchsorted(self._classes, labels)
        residual = -(rows @ self._weight)  # (n, K)
        residual[torch.arange(len(rows)), columns] += 1.0
        self._weight = self._weight + halved.t() @ torch.linalg.solve_triangular(factor, residual, upper=False)
        self._counts = self._counts + torch.bincount(columns, minlength=len(self._classes))
        self._pending = torch.cat([self._pending, halved])
        if len(self._pending) >= PENDING_ROWS:
            self._settle()

    def _state_loaded(self) -> None:
        known = len(self._classes)
        fitting = self._counts.shape == (known,) and self._weight.shape == (self.dim, known)
        if not fitting or self._pending.shape[1:] != (self.dim,):
            raise ValueError("the recursion loaded does not fit together: classes, counts and weights differ")

    def _settle(self) -> None:
        """Subtract what is pending from R."""
        if len(self._pending):
            _subtract_gram(self._settled, self._pending)
            self._pending = self._pending[:0]

    def _check_precision(self, features: Tensor) -> None:
        if self._settled.dtype != torch.float64:
            raise ValueError(
                f"the recursion needs float64, but the head was cast to {self._settled.dtype}; call head.double() "
                "before any learning, or cast only the backbone"
            )
        norm = float(torch.linalg.vector_norm(features, dim=1, dtype=torch.float64).max())
        largest = norm * norm
        if largest > self.gamma * LARGEST_RATIO:
            raise SingularMomentsError(
                f"float64 cannot hold gamma = {self.gamma:g} beside features of squared norm {largest:.3g}; scale them "
                f"down or use a gamma of {1.1 * largest / LARGEST_RATIO:.2g} or more"
            )

    def _widen(self, unseen: Tensor) -> None:
        if not len(unseen):
            return
        self._classes, order = torch.sort(torch.cat([self._classes, unseen]))
        self._counts = torch.cat([self._counts, torch.zeros_like(unseen)])[order]
        zeros = self._weight.new_zeros(self.dim, len(unseen))
        self._weight = torch.cat([self._weight, zeros], dim=1)[:, order]


def _subtract_gram(matrix: Tensor, rows: Tensor) -> None:
    """``matrix -= rows^T rows``, in place and symmetric to the bit: drifting triangles would ruin long recursions."""
    for start in range(0, len(matrix), BLOCK_WIDTH):
        stop = start + BLOCK_WIDTH
        matrix[start:stop, start:].addmm_(rows[:, start:stop].t(), rows[:, start:], alpha=-1.0)
        block = matrix[start:stop, start:stop]
        block.copy_((block + block.t()) / 2)
        matrix[stop:, start:stop] = matrix[start:stop, stop:].t()
