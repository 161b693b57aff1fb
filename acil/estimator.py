"""The analytic head as a scikit-learn estimator: features in, any labels out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from acil.buffer import FourierBuffer
from acil.errors import NotLearnedError
from acil.extract import constant_batches
from acil.head import ExactHead, Gamma
from acil.learner import AnalyticLearner

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # before scikit-learn 1.6 it was a method

    def validate_data(estimator: AnalyticClassifier, *data: Any, **options: Any) -> Any:
        """As in later versions of scikit-learn."""
        return estimator._validate_data(*data, **options)


# Deviations from the mean up to which a feature is standardised linearly.
LINEAR_DEVIATIONS = 3.0
# The constant batch shape of predictions.
PREDICTED_ROWS = 256


class Standardisation(nn.Module):
    """Features without their units: ``z = (x - mean) / deviation`` in float64, then float32.

    Mean and deviation are those of the first features learned. A class that comes later may lie hundreds of these
    deviations away, or vary where the first ones did not; beyond three deviations z therefore grows with the
    logarithm of the distance, so no single feature drowns the others.

    Args:
        features: (n, f) float64, n at least 1. A feature that does not vary among them gets the median of the other
            deviations.

    Raises:
        ValueError: values are too large to be squared.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        first = features[0]
        distances = features - first  # zero where a feature is constant, whatever its offset
        deviation = distances.std(dim=0, correction=0)
        if not bool(torch.isfinite(deviation).all()):
            raise ValueError(f"features of up to {float(features.abs().max()):.3g} are too large; scale them down")
        varying = deviation[deviation > 0]
        typical = float(varying.median() if len(varying) else first.abs().mean()) or 1.0
        self.register_buffer("mean", first + distances.mean(dim=0))
        self.register_buffer("deviation", torch.where(deviation > 0, deviation, typical))

    def forward(self, features: Tensor) -> Tensor:
        """(n, f) float64 to (n, f) float32."""
        linear = (features - self.mean) / self.deviation
        excess = (linear.abs() / LINEAR_DEVIATIONS).clamp(min=1)
        return (linear.clamp(-LINEAR_DEVIATIONS, LINEAR_DEVIATIONS) * (1 + excess.log())).float()


class AnalyticClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A kernel classifier in closed form that learns, unlearns and merges exactly, and stores no sample.

    Features are standardised and expanded by random Fourier features; the weights are the ridge solution of integer
    moments. Batches, their order and new classes on the way cannot matter: after ``calibrate(X)``, any sequence of
    ``partial_fit`` calls gives bit for bit what ``fit(X, y)`` gives.

    Args:
        buffer_size: width d of the expanded features. Memory grows with its square, a solve with its cube.
        gamma: ridge, above 0; "auto" takes a tenth of the one of least generalised cross-validation error at every
            solve.
        bits: of a quantised feature, 8 or 16.
        random_state: fixes the random expansion. Classifiers that are to be merged need equal ones.

    Attributes:
        classes_: (K,) labels learned, sorted.
        n_features_in_: width of a feature.
        feature_names_in_: names of the features, where X had some.

    Example:
        >>> import numpy as np
        >>> X, y = np.array([[0.0, 0.0], [0.1, 0.2], [5.0, 4.0], [4.0, 5.0]]), ["cat", "cat", "dog", "dog"]
        >>> classifier = AnalyticClassifier(buffer_size=64).fit(X, y)
        >>> classifier.predict([[4.5, 4.5]]).tolist()
        ['dog']
        >>> classifier.partial_fit([[-9.0, 9.0]], ["owl"]).classes_.tolist()
        ['cat', 'dog', 'owl']
        >>> classifier.forget([[-9.0, 9.0]], ["owl"]).digest() == AnalyticClassifier(buffer_size=64).fit(X, y).digest()
        True

    References:
        Zhuang et al., NeurIPS 2022; Rahimi and Recht, NeurIPS 2007.
    """

    def __init__(
        self,
        buffer_size: int = 1024,
        *,
        gamma: Gamma = "auto",
        bits: int = 8,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.buffer_size = buffer_size
        self.gamma = gamma
        self.bits = bits
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> AnalyticClassifier:
        """Learn (n, f) features X of (n,) labels y, integers or strings, and nothing else.

        Raises:
            ValueError: a parameter, a shape, a dtype or a value does not fit.
        """
        with self._unchanged_if_refused():
            features, labels = self._samples(X, y, reset=True)
            self._learner = self._calibrated(features)
            self.classes_ = labels[:0]
            return self._learn(features, labels)

    def calibrate(self, X: ArrayLike) -> AnalyticClassifier:
        """Fix the standardisation on typical (n, f) features without learning them.

        ``partial_fit`` does so with the first batch it gets; where that is small or of one class only, calibrate on
        more. Classifiers that are to be merged must be calibrated on the same features. What was learned is lost.

        Raises:
            ValueError: a parameter, a shape, a dtype or a value does not fit.
        """
        with self._unchanged_if_refused():
            self._learner = self._calibrated(self._features(X, reset=True))
        if hasattr(self, "classes_"):
            del self.classes_
        return self

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> AnalyticClassifier:
        """Learn further (n, f) features X of (n,) labels y; new classes may appear at any time.

        Args:
            X: (n, f) features.
            y: (n,) labels, all integers or all strings.
            classes: not needed; where given, every label of y must be among them.

        Raises:
            ValueError: a shape, a dtype or a value does not fit; nothing has changed then.
        """
        first = not hasattr(self, "_learner")
        with self._unchanged_if_refused():
            features, labels = self._samples(X, y, reset=first)
            if classes is not None and not np.isin(labels, classes).all():
                unlisted = np.setdiff1d(labels, classes).tolist()
                raise ValueError(f"y holds {unlisted}, which classes does not list; add them")
            if first:
                self._learner = self._calibrated(features)
            return self._learn(features, labels)

    def forget(self, X: ArrayLike, y: ArrayLike) -> AnalyticClassifier:
        """Unlearn samples: the digest is then that of never having learned them.

        Args:
            X: (n, f), the very features that were learned.
            y: (n,), the labels they were learned with. A class left without samples disappears from ``classes_``.

        Raises:
            NotLearnedError: more samples of a class than were learned, or impossible ones; nothing has changed then.
            ValueError: a shape, a dtype or a value does not fit; nothing has changed then.
        """
        check_is_fitted(self)
        features, labels = self._samples(X, y, reset=False)
        learned = dict(zip(self._learner.classes.tolist(), self._learner.head.counts.tolist(), strict=True))
        present, counts = np.unique(labels, return_counts=True)
        for label, count in zip(present.tolist(), counts.tolist(), strict=True):
            there = learned.get(_code(label), 0)
            if count > there:
                raise NotLearnedError(f"cannot forget {count} samples of class {label!r}: {there} were learned")
        self._learner.forget(features, _codes(labels))
        return self._learned(labels)

    def merge(self, other: AnalyticClassifier) -> AnalyticClassifier:
        """Add everything that another classifier learned; it is left as it is.

        Raises:
            ValueError: the two differ in standardisation, expansion, gamma, bits or kind of labels; nothing has
                changed then.
        """
        if not isinstance(other, AnalyticClassifier):
            raise ValueError(f"only an AnalyticClassifier merges with another, got {type(other).__name__}")
        if not (hasattr(self, "_learner") and hasattr(other, "_learner")):
            raise NotFittedError("classifiers merge only when calibrated; call calibrate on the same features in both")
        theirs = self._check_kind(other._known())
        if self._learner.fingerprint() != other._learner.fingerprint():
            raise ValueError(
                "classifiers merge only with equal buffer_size, bits, random_state and standardisation; "
                "call calibrate on the same features in both before they learn"
            )
        self._learner.merge(other._learner)
        return self._learned(theirs)

    def digest(self) -> str:
        """SHA-256 of everything learned, labels included: equal for equal samples, whatever their order and batches.

        Raises:
            NotFittedError: nothing was learned yet.
        """
        check_is_fitted(self)
        return self._learner.digest()

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores of (n, f) features: (n, K) in the order of ``classes_``, or (n,) for two classes.

        Two classes have one score, that of ``classes_[1]`` minus that of ``classes_[0]``.

        Raises:
            NotFittedError: nothing was learned yet.
            ValueError: X is no finite array of this width.
        """
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The likeliest label of each of (n, f) features: (n,), with the dtype of ``classes_``.

        Raises:
            NotFittedError: nothing was learned yet.
            ValueError: X is no finite array of this width.
        """
        best = self._scores(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    @contextmanager
    def _unchanged_if_refused(self) -> Iterator[None]:
        """Give the attributes their values back if the block fails: scikit-learn sets some before it refuses."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__ = before
            raise

    def __sklearn_is_fitted__(self) -> bool:
        return len(self._known()) > 0

    @torch.no_grad()
    def _scores(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        features = self._learner.extract(self._features(X, reset=False))
        scores = torch.cat(
            [
                self._learner.head(self._learner.buffer(rows).double())[:real]
                for rows, real in constant_batches(features, PREDICTED_ROWS)
            ]
        )
        return scores[:, torch.searchsorted(self._learner.classes, _codes(self.classes_))].numpy()

    def _features(self, X: ArrayLike, reset: bool) -> Tensor:
        return torch.tensor(validate_data(self, X, dtype=np.float64, reset=reset))

    def _samples(self, X: ArrayLike, y: ArrayLike, reset: bool) -> tuple[Tensor, NDArray[Any]]:
        features, labels = validate_data(self, X, y, dtype=np.float64, reset=reset)
        if labels.dtype.kind == "O" and len({isinstance(label, str) for label in labels}) > 1:
            raise ValueError("labels must be all integers or all strings, got a mixture; convert them first")
        check_classification_targets(labels)
        return torch.tensor(features), labels if reset else self._check_kind(labels)

    def _check_kind(self, labels: NDArray[Any]) -> NDArray[Any]:
        known = self._known()
        if len(known) and len(labels) and _are_text(known) != _are_text(labels):
            learned, came = known.tolist()[0], labels.tolist()[0]
            raise ValueError(f"labels like {learned!r} were learned, got {came!r}; use one kind of label")
        return labels

    def _known(self) -> NDArray[Any]:
        return getattr(self, "classes_", np.empty(0, dtype=np.int64))

    def _calibrated(self, features: Tensor) -> AnalyticLearner:
        """A learner of our settings with the standardisation of these features that has learned nothing."""
        width, dim = features.shape[1], _plain(self.buffer_size)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        buffer = FourierBuffer(width, dim, seed)
        buffer.calibrate(torch.tensor([[-1.0], [1.0]]).expand(2, width))  # what it gets is standardised already
        head = ExactHead(dim, _plain(self.gamma), _plain(self.bits))
        learner = AnalyticLearner(Standardisation(features), buffer, head)
        learner.calibrate(learner.extract(features))
        return learner

    def _learn(self, features: Tensor, labels: NDArray[Any]) -> AnalyticClassifier:
        self._learner.learn(features, _codes(labels))
        return self._learned(labels)

    def _learned(self, labels: NDArray[Any]) -> AnalyticClassifier:
        """Set ``classes_`` to what the learner knows, after a change to these labels."""
        parts = [part for part in (self._known(), labels) if len(part)]  # an empty one would impose its dtype
        classes = np.unique(np.concatenate(parts)) if parts else labels
        self.classes_ = classes[torch.isin(_codes(classes), self._learner.classes).numpy()]
        return self


def _code(label: Any) -> int:
    """The learner's label for ours: a hash, so that it does not depend on which classes came before."""
    plain = str(label) if isinstance(label, str) else int(label)
    return int.from_bytes(hashlib.sha256(repr(plain).encode()).digest()[:8], "big") >> 1


def _codes(labels: NDArray[Any]) -> Tensor:
    present, places = np.unique(labels, return_inverse=True)
    return torch.tensor([_code(label) for label in present], dtype=torch.int64)[torch.from_numpy(places)]


def _are_text(labels: NDArray[Any]) -> bool:
    return labels.dtype.kind not in "biuf"


def _plain(value: Any) -> Any:
    """A parameter as Python's own number: grids of parameters often hold numpy's."""
    return value.item() if isinstance(value, np.generic) else value
