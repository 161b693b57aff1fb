"""Training that survives a kill: everything that the next epoch depends on, on disk after every epoch."""

from __future__ import annotations

import io
import pickle
import random
from pathlib import Path
from typing import Any

import numpy
import torch
from avalanche.core import BaseSGDPlugin

from acil.files import write_atomically
from acil.strategies.schedule import LearningRateSchedule


class EpochCheckpoint(BaseSGDPlugin):  # type: ignore[misc]
    """Saves network, optimizer, schedule and random states after every epoch, and goes on from them.

    Where the file exists when training begins, the strategy trains only the epochs that are left, and ends with the
    weights of an undisturbed training, bit for bit. Give it last, after every plugin with a state of its own.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.epochs_before = 0

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Restore the file, where there is one.

        Raises:
            ValueError: it is truncated, or of a training with other settings.
        """
        if not self.path.exists():
            return
        state = self._read()
        try:
            if state["epochs"] != strategy.train_epochs:
                raise ValueError(f"{state['epochs']} epochs instead of {strategy.train_epochs}")
            strategy.model.load_state_dict(state["model"])
            strategy.optimizer.load_state_dict(state["optimizer"])
            for schedule, saved in zip(_schedules(strategy), state["schedules"], strict=True):
                schedule.scheduler.load_state_dict(saved)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"{self.path} is of a training with other settings ({error}); delete it or use another folder"
            ) from error
        _restore_random_states(state["random"])
        self.epochs_before = state["epochs_done"]
        strategy.train_epochs -= self.epochs_before

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Write the file."""
        content = io.BytesIO()
        torch.save(
            {
                "epochs": strategy.train_epochs + self.epochs_before,
                "epochs_done": strategy.clock.train_exp_epochs + 1 + self.epochs_before,
                "model": strategy.model.state_dict(),
                "optimizer": strategy.optimizer.state_dict(),
                "schedules": [_plain(schedule.scheduler.state_dict()) for schedule in _schedules(strategy)],
                "random": _random_states(),
            },
            content,
        )
        write_atomically(self.path, content.getvalue())

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Give the strategy its number of epochs back."""
        strategy.train_epochs += self.epochs_before
        self.epochs_before = 0

    def _read(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
            raise ValueError(f"{self.path} is damaged; delete it to train anew") from error
        return state


def _schedules(strategy: Any) -> list[LearningRateSchedule]:
    return [plugin for plugin in strategy.plugins if isinstance(plugin, LearningRateSchedule)]


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Only numbers and lists of them: what may be loaded without running code."""
    return {name: value for name, value in state.items() if isinstance(value, (bool, int, float, list))}


def _random_states() -> dict[str, Any]:
    version, keys, place, has_gauss, gauss = numpy.random.get_state()  # noqa: NPY002  the global one is meant
    python_version, python_keys, python_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [
            str(version),
            torch.from_numpy(keys.astype("int64")),
            int(place),
            int(has_gauss),
            float(gauss),
        ],
        "python": [python_version, list(python_keys), python_gauss],
    }


def _restore_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
    version, keys, place, has_gauss, gauss = states["numpy"]
    numpy.random.set_state((version, keys.numpy().astype("uint32"), place, has_gauss, gauss))  # noqa: NPY002
    python_version, python_keys, python_gauss = states["python"]
    random.setstate((python_version, tuple(python_keys), python_gauss))
