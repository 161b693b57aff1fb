"""The head of DS-AL: a second stream learns what the first one could not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from acil.checks import check_positive
from acil.head.base import AnalyticHead, Gamma
from acil.head.exact import ExactHead
from acil.head.growing import GrowingState
from acil.head.integer_product import add_product
from acil.head.ridge import RidgeSolution, solve_targets
from acil.head.solved import SolvedDualStreamHead
from acil.transaction import all_or_nothing


class DualStreamHead(GrowingState, AnalyticHead):
    """A main stream of ``relu(p)`` and a compensation stream of ``tanh(p)`` on the same projections p.

    After the main stream has learned a phase, what it leaves unexplained of the phase's labels is the compensation
    stream's target, with the columns of earlier classes set to zero ("previous label cleansing"); logits are
    ``main + ratio * compensation``. Both streams keep integer moments, so batches and order within a phase do not
    matter; the division into phases does, as the method defines it. Hence it neither forgets nor merges.

    Args:
        dim: width d of both streams.
        gamma: ridge of both streams; "auto" chooses it for the main one, and the other takes the same.
        bits: 8 or 16, as for ``ExactHead``.
        ratio: weight of the compensation stream, above 0; published are 0.6 (CIFAR-100) and 1.5 (ImageNet-1k).

    Attributes:
        main: the ``ExactHead`` of the main stream: that of ACIL.
        compensation: an ``ExactHead`` of which only the autocorrelation and the scale are used.
        targets: (K, d) float64, cross-correlation of the compensation stream with the residuals.

    References:
        Zhuang et al., "DS-AL: A Dual-Stream Analytic Learning for Exemplar-Free Class-Incremental Learning",
        AAAI 2024.
    """

    name = "dual-stream"
    targets: Tensor
    growing = ("targets",)

    def __init__(self, dim: int, gamma: Gamma = 0.1, bits: int = 8, ratio: float = 0.6) -> None:
        super().__init__(dim, gamma)
        check_positive(ratio, "ratio")
        self.ratio = ratio
        self.main = ExactHead(dim, gamma, bits)
        self.compensation = ExactHead(dim, gamma, bits)
        self.register_buffer("targets", torch.zeros(0, dim, dtype=torch.float64))
        self._solved: tuple[tuple[int, float, torch.device], RidgeSolution] | None = None

    @property
    def gamma(self) -> Gamma:
        """Ridge of both streams."""
        return self._gamma

    @gamma.setter
    def gamma(self, gamma: Gamma) -> None:
        self._gamma = gamma
        for stream in self.children():
            if isinstance(stream, ExactHead):
                stream.gamma = gamma

    @property
    def spec(self) -> dict[str, Any]:
        """What ``create_head`` needs to build it again."""
        return {**super().spec, "bits": self.main.quantizer.bits, "ratio": self.ratio}

    @property
    def classes(self) -> Tensor:
        """(K,) int64: the labels learned, ascending."""
        return self.main.classes

    @property
    def counts(self) -> Tensor:
        """(K,) int64: samples learned of each class."""
        return self.main.counts

    @property
    def weight(self) -> Tensor:
        """(2 d, K) float64: of ``relu(p)``, then of ``tanh(p)`` with the ratio included."""
        if not len(self.classes):
            return torch.zeros(2 * self.dim, 0, dtype=torch.float64, device=self.classes.device)
        return torch.cat([self.main.weight, self.ratio * self._compensation_weight()])

    @property
    def chosen_gamma(self) -> float:
        """The ridge of both streams."""
        return self.main.chosen_gamma

    @property
    def is_calibrated(self) -> bool:
        """Whether the scales of both streams are fixed."""
        return self.main.is_calibrated and self.compensation.is_calibrated

    def calibrate(self, features: Tensor) -> None:
        """Fix both scales on typical (n, d) projections, once.

        Raises:
            ValueError: they are fixed already, or the projections are not finite rows of width d.
        """
        self._check_features(features)
        self.main.calibrate(torch.relu(features))
        self.compensation.calibrate(torch.tanh(features))

    def learn(self, features: Tensor, labels: Tensor) -> None:
        """Learn (n, d) projections as one phase; see ``AnalyticHead.learn``."""
        self.learn_phase([(features, labels)])

    @torch.no_grad()
    def learn_phase(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Learn the projections of one phase: the main stream first, then the compensation of its residuals."""
        with all_or_nothing(self):
            known = self.classes
            phase = self.compensation.fresh()
            product = torch.zeros(self.dim, self.dim, dtype=torch.int64, device=known.device)  # of both streams
            for features, labels in self._checked(batches):
                if not self.is_calibrated:
                    self.calibrate(features)
                    phase = self.compensation.fresh()
                main, other = torch.relu(features), torch.tanh(features)
                self.main.learn(main, labels)
                phase.learn(other, labels)
                add_product(product, phase.quantizer(other), self.main.quantizer(main))
            if len(phase.classes):
                self._compensate(phase, product, known)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of (n, d) projections over all classes learned: (n, K), in the projections' dtype."""
        streams = torch.cat([torch.relu(features), torch.tanh(features)], dim=1)
        return streams @ self.weight.to(features.dtype)

    def solved(self) -> SolvedDualStreamHead:
        """The classifier as it is now; see ``AnalyticHead.solved``."""
        return SolvedDualStreamHead(self.weight)

    def fresh(self) -> DualStreamHead:
        """A head with the same settings and scales that has learned nothing."""
        head = DualStreamHead(self.dim, self.gamma, self.main.quantizer.bits, self.ratio)
        head.main, head.compensation = self.main.fresh(), self.compensation.fresh()
        return head.to(self.classes.device)

    def _compensate(self, phase: ExactHead, product: Tensor, known: Tensor) -> None:
        """Add T^T (Y - M W) of this phase for the classes that are new in it; M and T are the streams' rows."""
        new = ~torch.isin(self.classes, known)
        scale_t, scale_m = float(phase.quantizer.scale), float(self.main.quantizer.scale)
        fitted = scale_t * scale_m * (product.double() @ self.main.weight[:, new])  # (d, new)
        labelled = scale_t * phase.moments.cross_correlation[~torch.isin(phase.classes, known)].double()
        targets = self.targets.new_zeros(len(self.classes), self.dim)
        targets[~new] = self.targets
        targets[new] = labelled - fitted.t()
        self.targets = targets
        self.compensation.merge(phase)

    def _compensation_weight(self) -> Tensor:
        moments = self.compensation.moments
        key = moments.version, self.chosen_gamma, self.targets.device
        if self._solved is None or self._solved[0] != key:
            scale = float(self.compensation.quantizer.scale)
            self._solved = key, solve_targets(moments, self.targets / scale, scale, self.chosen_gamma)
        return self._solved[1].weight

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DualStreamHead:
        """Moves as any module does, but keeps the targets' bits when ``half()`` and the like cast the learner."""
        targets = self.targets
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.targets = targets.to(self.targets.device)
        return self

    def _state_loaded(self) -> None:
        self._solved = None
        if self.targets.shape != (len(self.classes), self.dim):
            raise ValueError("the streams loaded do not fit together: classes and targets differ")
