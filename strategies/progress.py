"""Progress of a training, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from avalanche.core import BaseSGDPlugin


class EpochProgress(BaseSGDPlugin, supports_distributed=True):  # type: ignore[misc, call-arg]
    """Calls back after every iteration.

    Args:
        callback: gets the epochs done so far, with the share of the present one: 2.25 in the third epoch.
    """

    def __init__(self, callback: Callable[[float], None]) -> None:
        super().__init__()
        self.callback = callback
        self.epochs = 0

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Remember how many epochs there are; a resumed training makes only the last ones."""
        self.epochs = strategy.train_epochs

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Report."""
        clock = strategy.clock
        epoch = self.epochs - strategy.train_epochs + clock.train_exp_epochs
        self.callback(epoch + (clock.train_epoch_iterations + 1) / len(strategy.dataloader))
