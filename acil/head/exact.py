"""The exact head: integer moments, solved when weights are needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from acil.errors import NotLearnedError
from acil.head.base import AnalyticHead, Gamma
from acil.head.moments import FeatureMoments
from acil.head.quantizer import Quantizer
from acil.head.ridge import CLASSIFIERS_SHARE, RidgeSolution, choose_gamma, solve_ridge
from acil.transaction import change_by_parts, uninterrupted

# Quantised rows gathered before they are multiplied: a longer product spreads the cost of adding it up.
PRODUCT_ROWS = 16_384


class ExactHead(AnalyticHead):
    """Ridge regression on integer moments of quantised features: incremental equals joint, bit for bit.

    Use it wherever exactness, unlearning, merging or learning speed matter. Its drawback: weights are solved at
    the first use after a change, at O(d^3); for predictions after every few samples use ``RecursiveHead``.

    Args:
        dim: width d of an expanded feature.
        gamma: ridge, above 0, in the units of the features; "auto" takes a tenth of the one of least
            generalised cross-validation error (``choose_gamma`` says why) at every solve, from the moments alone, at
            the price of several solves.
        bits: 8, or 16 for features that need finer steps, at four times the cost of learning.

    Attributes:
        moments: the accumulated ``FeatureMoments``; the weights are derived from them.
        quantizer: turns features into integers; calibrated once, by ``calibrate`` or on the first features learned.

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

    name = "exact"
    gamma_share = CLASSIFIERS_SHARE  # of what cross-validation would choose, taken by "auto"

    def __init__(self, dim: int, gamma: Gamma = 0.1, bits: int = 8) -> None:
        super().__init__(dim, gamma)
        self.moments = FeatureMoments(dim)
        self.quantizer = Quantizer(bits)
        self._solved: tuple[tuple[int, float, Gamma], RidgeSolution] | None = None

    @property
    def spec(self) -> dict[str, Any]:
        """What ``create_head`` needs to build it again."""
        return {**super().spec, "bits": self.quantizer.bits}

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
        """(d, K) float64, solved once after a change of the moments and then kept.

        Raises:
            SingularMomentsError: gamma is too small for float64 beside the moments.

        Warns:
            IllConditionedWarning: gamma is so small that the weights lose digits.
        """
        if not len(self.classes):
            return torch.zeros(self.dim, 0, dtype=torch.float64, device=self.classes.device)
        return self._solution().weight

    @property
    def chosen_gamma(self) -> float:
        """The ridge of the current weights: ``gamma``, or what "auto" came to.

        Raises:
            ValueError: gamma is "auto" and nothing was learned yet to choose it by.
        """
        if self.gamma != "auto":
            return self.gamma
        if not len(self.classes):
            raise ValueError("gamma='auto' is chosen by what was learned, and nothing was; call learn first")
        return self._solution().gamma

    def leverage(self, features: Tensor) -> Tensor:
        """How unlike everything learned each row is: ``phi (phi^T phi + gamma I)^-1 phi^T``.

        Large for directions that were never seen, so it tells foreign images from known ones. It comes from the
        factor that the weights were solved with.

        Args:
            features: (n, d) floating point.

        Returns:
            (n,) float64, 0 or more.

        Raises:
            ValueError: nothing was learned yet, or the features are not finite rows of width d.
        """
        if not len(self.classes):
            raise ValueError("nothing was learned yet; call learn first")
        self._check_features(features)
        return self._solution().leverage(features)

    @property
    def is_calibrated(self) -> bool:
        """Whether the quantiser's scale is fixed."""
        return self.quantizer.is_calibrated

    def calibrate(self, features: Tensor) -> None:
        """Fix the quantiser's scale on typical (n, d) features, once.

        Raises:
            ValueError: it is fixed already, or the features are not finite rows of width d.
        """
        self._check_features(features)
        self.quantizer.calibrate(features)

    def learn(self, features: Tensor, labels: Tensor) -> None:
        """Add samples to the moments; see ``AnalyticHead.learn``."""
        self._check_samples(features, labels)
        if len(features):
            with self._quantizer_as_moments():
                self.moments.add(self._quantized(features), labels)

    def learn_phase(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Add the samples of all batches to the moments, in as few products as memory allows; or none of them."""
        self._solved = None  # its factor would be one large matrix more, beside the moments and a copy of them
        with self._quantizer_as_moments():
            change_by_parts(self.moments, self._gathered(batches), lambda part: self.moments.add(*part))

    def fresh(self) -> ExactHead:
        """A head with the same gamma and scale that has learned nothing; the two can be merged."""
        head = type(self)(self.dim, self.gamma, self.quantizer.bits).to(self.moments.classes.device)
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
            ValueError: widths, scales, bits or gammas differ; nothing has changed then.
        """
        self._check_compatible(other)
        with uninterrupted():
            self.moments.subtract(other.moments)
            self.quantizer.clipped -= other.quantizer.clipped
            self.quantizer.quantized -= other.quantizer.quantized

    def merge(self, other: ExactHead, labels: Tensor | None = None) -> None:
        """Add everything that ``other`` learned; it is left as it is.

        Args:
            other: a head with the same width, scale, bits and gamma.
            labels: (K,) integers, the label here of each class of ``other``; by default the same as there.

        Raises:
            ValueError: widths, scales, bits or gammas differ, or the labels do not fit; nothing has changed then.
        """
        self._check_compatible(other)
        with uninterrupted():
            self.moments.merge(other.moments, labels)
            self.quantizer.clipped += other.quantizer.clipped
            self.quantizer.quantized += other.quantizer.quantized

    def digest(self) -> str:
        """SHA-256 of the moments: equal for equal samples, whatever their order and partition."""
        return self.moments.digest()

    @contextmanager
    def _quantizer_as_moments(self) -> Iterator[None]:
        """Give the quantiser its state back if the block fails and the moments are as before.

        Ctrl-C during a change of the moments is raised after it: the samples are learned then, and so is their scale.
        """
        before, counts = deepcopy(self.quantizer.state_dict()), self.moments.counts
        try:
            yield
        except BaseException:
            # Every change replaces the counts, and so does undoing one.
            if self.moments.counts is counts or int(self.moments.counts.sum()) == int(counts.sum()):
                self.quantizer.load_state_dict(before)
            raise

    def _gathered(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Quantised rows and labels of many batches together."""
        rows: list[Tensor] = []
        labels: list[Tensor] = []
        for features, targets in self._checked(batches):
            rows.append(self._quantized(features))
            labels.append(targets)
            if sum(map(len, rows)) >= PRODUCT_ROWS:
                yield torch.cat(rows), torch.cat(labels)
                rows.clear()
                labels.clear()
        if rows:
            yield torch.cat(rows), torch.cat(labels)

    def _quantized(self, features: Tensor) -> Tensor:
        if not self.is_calibrated:
            self.calibrate(features)
        self.quantizer.count_clipped(features)
        rows: Tensor = self.quantizer(features)
        return rows

    def _solution(self) -> RidgeSolution:
        moments, scale = self.moments, float(self.quantizer.scale)
        key = moments.version, scale, self.gamma
        if self._solved is None or self._solved[0] != key or self._solved[1].weight.device != moments.classes.device:
            self._solved = None  # its factor would be a second large matrix beside the new one
            gamma = choose_gamma(moments, scale, self.gamma_share) if self.gamma == "auto" else self.gamma
            self._solved = key, self._solve(gamma)
        return self._solved[1]

    def _solve(self, gamma: float) -> RidgeSolution:
        return solve_ridge(self.moments, float(self.quantizer.scale), gamma)

    def _check_compatible(self, other: ExactHead) -> None:
        if not isinstance(other, ExactHead):
            raise ValueError(f"only an ExactHead merges exactly, got {type(other).__name__}")
        here, there = self._frozen(), other._frozen()
        if here != there:
            raise ValueError(
                f"heads merge only with equal scale, bits and gamma; here {here}, there {there}; "
                "start the others from head.fresh()"
            )

    def _frozen(self) -> tuple[float, int, Gamma]:
        return float(self.quantizer.scale), self.quantizer.bits, self.gamma
