"""The exact head: integer moments, solved when weights are needed."""

from __future__ import annotations

import torch
from torch import Tensor

from acil.buffer import Quantizer
from acil.checks import check_features
from acil.errors import NotLearnedError
from acil.head.base import AnalyticHead
from acil.head.moments import FeatureMoments
from acil.head.ridge import solve_ridge


class ExactHead(AnalyticHead):
    """Ridge regression on integer moments of quantised features: incremental equals joint, bit for bit.

    Use it wherever exactness, unlearning, merging or learning speed matter. Its drawback: weights are solved at
    the first use after a change, at O(d^3); for predictions after every few samples use ``RecursiveHead``.

    Args:
        dim: width d of an expanded feature.
        gamma: ridge, above 0, in the units of the features.

    Attributes:
        moments: the accumulated ``FeatureMoments``; the weights are derived from them.
        quantizer: turns features into int8 rows; calibrated once, by ``calibrate`` or on the first features learned.

    Example:
        >>> head = ExactHead(dim=2, gamma=0.1)
        >>> head.learn(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([7, 3]))
        >>> head.classes.tolist()
        [3, 7]
        >>> head.predict(torch.tensor([[0.9, 0.1]])).tolist()
        [7]

    References:
        Zhuang et al., "ACIL: Analytic Class-Incremental Learning with Absolute Memorization and Privacy Protection",
        NeurIPS 2022.
    """

    def __init__(self, dim: int, gamma: float = 0.1) -> None:
        super().__init__(dim, gamma)
        self.moments = FeatureMoments(dim)
        self.quantizer = Quantizer()
        self._solved: tuple[tuple[int, float, float], Tensor] | None = None

    @property
    def classes(self) -> Tensor:
        """(K,) int64: the labels learned, ascending."""
        return self.moments.classes

    @property
    def counts(self) -> Tensor:
        """(K,) int64: samples learned of each class."""
        return self.moments.counts

    @property
    def weight(self) -> Tensor:
        """(d, K) float64, solved once after a change of the moments and then kept."""
        moments = self.moments
        if not len(moments.classes):
            return torch.zeros(self.dim, 0, dtype=torch.float64, device=moments.classes.device)
        key = moments.version, float(self.quantizer.scale), self.gamma
        if self._solved is None or self._solved[0] != key:
            _, scale, gamma = key
            self._solved = key, solve_ridge(moments.autocorrelation, moments.cross_correlation, scale, gamma)
        return self._solved[1].to(moments.classes.device)

    @property
    def is_calibrated(self) -> bool:
        """Whether the quantiser's scale is fixed."""
        return self.quantizer.is_calibrated

    def calibrate(self, features: Tensor) -> None:
        """Fix the quantiser's scale on typical (n, d) features, once.

        Raises:
            ValueError: it is fixed already, or the features are not finite rows of width d.
        """
        check_features(features, self.dim)
        self.quantizer.calibrate(features)

    def learn(self, features: Tensor, labels: Tensor) -> None:
        """Add samples to the moments; see ``AnalyticHead.learn``."""
        self._check_samples(features, labels)
        if not len(features):
            return
        if not self.is_calibrated:
            self.calibrate(features)
        self.moments.add(self.quantizer(features), labels)
        self.quantizer.count_clipped(features)

    def fresh(self) -> ExactHead:
        """A head with the same gamma and scale that has learned nothing; the two can be merged."""
        head = ExactHead(self.dim, self.gamma).to(self.moments.classes.device)
        head.quantizer.scale.copy_(self.quantizer.scale)
        return head

    def forget(self, features: Tensor, labels: Tensor) -> None:
        """Take learned samples away: the moments are then those of never having learned them, bit for bit.

        Args:
            features: (n, d) floating point, the very features that were learned.
            labels: (n,) integers, the labels they were learned with.

        Raises:
            NotLearnedError: more samples of a class than were learned, or impossible ones; nothing has changed then.
            ValueError: shapes, dtypes or values differ; nothing has changed then.
        """
        self._check_samples(features, labels)
        if not len(features):
            return
        if not self.is_calibrated:
            raise NotLearnedError("nothing was learned yet, so there is nothing to forget")
        forgotten = self.fresh()
        forgotten.learn(features, labels)
        self.subtract(forgotten)

    def subtract(self, other: ExactHead) -> None:
        """Take everything that ``other`` learned away, as ``forget`` does; it is left as it is.

        Raises:
            NotLearnedError: ``other`` learned what this head did not; nothing has changed then.
            ValueError: widths, scales or gammas differ; nothing has changed then.
        """
        self._check_compatible(other)
        self.moments.subtract(other.moments)
        self.quantizer.clipped -= other.quantizer.clipped
        self.quantizer.quantized -= other.quantizer.quantized

    def merge(self, other: ExactHead) -> None:
        """Add everything that ``other`` learned; it is left as it is.

        Raises:
            ValueError: widths, scales or gammas differ; nothing has changed then.
        """
        self._check_compatible(other)
        self.moments.merge(other.moments)
        self.quantizer.clipped += other.quantizer.clipped
        self.quantizer.quantized += other.quantizer.quantized

    def digest(self) -> str:
        """SHA-256 of the moments: equal for equal samples, whatever their order and partition."""
        return self.moments.digest()

    def _check_compatible(self, other: ExactHead) -> None:
        if not isinstance(other, ExactHead):
            raise ValueError(f"only an ExactHead merges exactly, got {type(other).__name__}")
        if not torch.equal(self.quantizer.scale.cpu(), other.quantizer.scale.cpu()) or self.gamma != other.gamma:
            raise ValueError(
                f"heads merge only with equal scale and gamma; here scale {float(self.quantizer.scale):g} and gamma "
                f"{self.gamma:g}, there {float(other.quantizer.scale):g} and {other.gamma:g}; start the "
                "others from head.fresh()"
            )
