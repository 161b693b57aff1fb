"""What every analytic head offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from acil.checks import check_count, check_device, check_features, check_labels, check_positive
from acil.head.solved import SolvedHead
from acil.transaction import change_by_parts

Gamma = float | Literal["auto"]


class AnalyticHead(nn.Module, ABC):
    """A linear classifier in closed form, learnt from expanded features in any number of calls.

    Labels are integers of 0 or more, in any order; a class may appear at any time and come back later. Unless a head
    says otherwise, the weights are those of joint ridge regression on one-hot labels, whatever the split into calls.

    Args:
        dim: width d of an expanded feature.
        gamma: ridge, above 0; "auto" to let the moments choose it, where the head can.

    Attributes:
        name: what files and the command line call it.
    """

    name: ClassVar[str]

    def __init__(self, dim: int, gamma: Gamma) -> None:
        super().__init__()
        check_count(dim, "dim")
        if not isinstance(gamma, str) or gamma != "auto":
            check_positive(gamma, "gamma")
        self.dim = dim
        self.gamma = gamma

    @property
    def spec(self) -> dict[str, Any]:
        """What ``create_head`` needs to build it again; its state comes from the state dict."""
        return {"name": self.name, "dim": self.dim, "gamma": self.gamma}

    @property
    @abstractmethod
    def chosen_gamma(self) -> float:
        """The ridge of the current weights: ``gamma``, or what "auto" came to."""

    @property
    @abstractmethod
    def classes(self) -> Tensor:
        """(K,) int64: the labels learned, ascending; column k of the logits belongs to ``classes[k]``."""

    @property
    @abstractmethod
    def counts(self) -> Tensor:
        """(K,) int64: samples learned of each class."""

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """(d, K) float64: the ridge solution for everything learned so far."""

    @abstractmethod
    def learn(self, features: Tensor, labels: Tensor) -> None:
        """Learn samples.

        Args:
            features: (n, d) floating point, finite.
            labels: (n,) integers, 0 or more.

        Raises:
            ValueError: shapes, dtypes or values differ; nothing has changed then.
        """

    def learn_phase(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Learn what belongs to one phase, given as (features, labels) batches; see ``learn``.

        Raises:
            ValueError: shapes, dtypes or values differ. Nothing has changed then, nor when ``batches`` itself fails.
        """
        change_by_parts(self, self._checked(batches), lambda batch: self.learn(*batch))

    @abstractmethod
    def fresh(self) -> AnalyticHead:
        """A head with the same settings and calibration that has learned nothing."""

    @property
    def is_calibrated(self) -> bool:
        """Whether the head is ready for its first ``learn``."""
        return True

    def calibrate(self, features: Tensor) -> None:
        """Fit what must be fixed before the first ``learn`` to typical (n, d) features; by default nothing.

        Raises:
            ValueError: shapes, dtypes or values differ; nothing has changed then.
        """
        self._check_features(features)

    def solved(self) -> nn.Module:
        """The classifier as it is now, in float32, without what learning needs: (n, d) features to logits (n, K)."""
        return SolvedHead(self.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of (n, d) features over all classes learned: (n, K), in the features' dtype."""
        return features @ self.weight.to(features.dtype)

    def predict(self, features: Tensor) -> Tensor:
        """The likeliest label of each of (n, d) features: (n,) int64.

        Raises:
            ValueError: nothing was learned yet, or the features are not finite rows of width d.
        """
        if not len(self.classes):
            raise ValueError("nothing was learned yet; call learn first")
        self._check_features(features)
        return self.classes[torch.argmax(self(features), dim=1)]

    def _checked(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches that have samples, each checked."""
        if not isinstance(batches, Iterable):
            raise ValueError(f"batches must be pairs of features and labels, got {type(batches).__name__}")
        for batch in batches:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise ValueError(f"batches must be pairs of features and labels, got a {type(batch).__name__}")
            features, labels = batch
            self._check_samples(features, labels)
            if len(features):
                yield features, labels

    def _check_samples(self, features: Tensor, labels: Tensor) -> None:
        self._check_features(features)
        check_labels(labels, len(features))

    def _check_features(self, features: Tensor) -> None:
        check_features(features, self.dim)
        check_device(features, "features", self.classes.device)
