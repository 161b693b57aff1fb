"""Learning-rate schedules by iteration, as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from avalanche.core import BaseSGDPlugin
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR


def _one_cycle(optimizer: Optimizer, rate: float, steps: int) -> LRScheduler:
    return OneCycleLR(optimizer, max_lr=rate, total_steps=steps, cycle_momentum=False)


def _cosine(optimizer: Optimizer, rate: float, steps: int) -> LRScheduler:
    return CosineAnnealingLR(optimizer, T_max=steps)


SCHEDULES: dict[str, Callable[[Optimizer, float, int], LRScheduler]] = {
    "one-cycle": _one_cycle,
    "cosine": _cosine,
}


class LearningRateSchedule(BaseSGDPlugin):  # type: ignore[misc]
    """Steps a torch scheduler after every iteration of an experience's training.

    Args:
        name: "one-cycle" (warm-up, then down to almost zero) or "cosine" (down to zero).

    Raises:
        ValueError: there is no such schedule; says which there are.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in SCHEDULES:
            raise ValueError(f"there is no schedule {name!r}; choose from: {', '.join(SCHEDULES)}")
        self.name = name
        self.scheduler: LRScheduler | None = None
        self.steps = 0

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Begin the schedule anew; it spans all epochs of the experience."""
        self.steps = max(1, strategy.train_epochs * len(strategy.dataloader))
        rate = strategy.optimizer.defaults["lr"]
        for group in strategy.optimizer.param_groups:
            group["lr"] = rate
        self.scheduler = SCHEDULES[self.name](strategy.optimizer, rate, self.steps)

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Go on to the next rate; stays at the last one where the loader served more than it announced."""
        assert self.scheduler is not None
        if self.scheduler.last_epoch < self.steps - 1:
            self.scheduler.step()
