"""Logit transformations between forward and loss, as plugins of any Avalanche strategy that trains by gradients."""

from __future__ import annotations

from typing import Any

from avalanche.core import BaseSGDPlugin
from torch import Tensor

from acil.losses import check_norm, check_tau, clip_logits, normalise_logits


class LogitPlugin(BaseSGDPlugin):  # type: ignore[misc]
    """The criterion sees transformed logits, while training only; a subclass says how they are transformed.

    Metrics, and plugins that come later (distillation, say), see the logits as the model gave them. Given after an
    open-set plugin it leaves the logits of foreign images alone; given before, it transforms them as well.

    Norms are those of all logits, of classes that do not occur as well: give the network as many outputs as there are
    classes, and no outputs that are masked by large values (Avalanche's ``IncrementalClassifier(masking=False)``).
    """

    def __init__(self) -> None:
        super().__init__()
        self._logits: Tensor | None = None

    def transform(self, logits: Tensor) -> Tensor:
        """(n, K) logits to what the criterion sees, of the same shape."""
        raise NotImplementedError

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Transform the mini-batch's output."""
        self._logits = strategy.mb_output
        strategy.mb_output = self.transform(strategy.mb_output)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Put the model's own output back, for the images that are still in the mini-batch."""
        assert self._logits is not None
        strategy.mb_output = self._logits[: len(strategy.mb_output)]
        self._logits = None


class LogitClipPlugin(LogitPlugin):
    """Bounds the norm of every logit vector, and with it the loss, so that wrong labels cannot be fitted without end.

    Args:
        tau: the largest norm, 1e-6 to 1e6.
        p: order of the norm: 1, 2 or infinity.

    Raises:
        ValueError: ``tau`` or ``p`` is out of range.

    References:
        Wei et al., "Mitigating memorization of noisy labels by clipping the model prediction", ICML 2023.
    """

    def __init__(self, tau: float = 1.0, p: float = 2.0) -> None:
        super().__init__()
        check_tau(tau)
        check_norm(p)
        self.tau, self.p = tau, p

    def transform(self, logits: Tensor) -> Tensor:
        """See :func:`acil.losses.clip_logits`."""
        return clip_logits(logits, self.tau, self.p)


class LogitNormPlugin(LogitPlugin):
    """Takes the norm out of the loss, so that confidence on foreign images does not grow with it.

    Args:
        tau: temperature, 1e-6 to 1e6.

    Raises:
        ValueError: ``tau`` is out of range.

    References:
        Wei et al., "Mitigating neural network overconfidence with logit normalization", ICML 2022.
    """

    def __init__(self, tau: float = 0.04) -> None:
        super().__init__()
        check_tau(tau)
        self.tau = tau

    def transform(self, logits: Tensor) -> Tensor:
        """See :func:`acil.losses.normalise_logits`."""
        return normalise_logits(logits, self.tau)
