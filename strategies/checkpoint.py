"""Training that survives a kill: everything that the next epoch depends on, on disk after every epoch."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy
import torch
from avalanche.core import BaseSGDPlugin
from torch.optim.lr_scheduler import LRScheduler

from acil.files import write_atomically
from acil.strategies.schedule import LearningRateSchedule

PARTS = {"settings", "epochs_done", "model", "optimizer", "schedules", "random"}


class EpochCheckpoint(BaseSGDPlugin):  # type: ignore[misc]
    """Saves network, optimizer, schedule and random states after every epoch, and goes on from them.

    Where the file exists when training begins, the strategy trains only the epochs that are left, and ends with the
    weights of an undisturbed training, bit for bit. Give it last, after every plugin that acts when training begins.
    States of other plugins than ``LearningRateSchedule`` are not saved.

    Args:
        path: the file; it is of one experience, and is left there when training ends.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.epochs_before = 0
        self._settings: dict[str, Any] = {}

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Forget a training that was interrupted in this very process."""
        self._give_epochs_back(strategy)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Restore the file, where there is one.

        Raises:
            ValueError: it is damaged, or of a training with other settings; nothing is restored then.
        """
        self._settings = _settings(strategy)
        if not self.path.exists():
            return
        state = self._read()
        self._refuse_other_settings(state["settings"])
        strategy.model.load_state_dict(state["model"])
        strategy.optimizer.load_state_dict(state["optimizer"])
        for schedule, saved in zip(_schedules(strategy), state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        _restore_random_states(state["random"])
        self.epochs_before = state["epochs_done"]
        strategy.train_epochs -= self.epochs_before

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Write the file."""
        content = io.BytesIO()
        torch.save(
            {
                "settings": self._settings,
                "epochs_done": strategy.clock.train_exp_epochs + 1 + self.epochs_before,
                "model": strategy.model.state_dict(),
                "optimizer": strategy.optimizer.state_dict(),
                "schedules": [_plain(schedule.state_dict()) for schedule in _schedules(strategy)],
                "random": _random_states(),
            },
            content,
        )
        write_atomically(self.path, content.getvalue())

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Give the strategy its number of epochs back."""
        self._give_epochs_back(strategy)

    def _give_epochs_back(self, strategy: Any) -> None:
        strategy.train_epochs += self.epochs_before
        self.epochs_before = 0

    def _read(self) -> dict[str, Any]:
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged bytes make the reader raise anything
            raise ValueError(f"{self.path} is damaged; delete it to train anew") from error
        if not isinstance(state, dict) or state.keys() != PARTS:
            raise ValueError(f"{self.path} is no checkpoint of base training; delete it or use another folder")
        return state

    def _refuse_other_settings(self, saved: dict[str, Any]) -> None:
        for name in [*self._settings, *saved]:
            if saved.get(name) != self._settings.get(name):
                raise ValueError(
                    f"{self.path} is of a training with other settings ({name}: {saved.get(name)} instead of "
                    f"{self._settings.get(name)}); delete it or use another folder"
                )


def _schedules(strategy: Any) -> list[LRScheduler]:
    plugins = [plugin for plugin in strategy.plugins if isinstance(plugin, LearningRateSchedule)]
    return [plugin.scheduler for plugin in plugins if plugin.scheduler is not None]


def _settings(strategy: Any) -> dict[str, Any]:
    """What must be equal for a training to go on: the same network, classes, data size, optimizer and schedules."""
    classes = getattr(strategy.model, "classes", None)
    shapes = {f"shape of {name}": list(tensor.shape) for name, tensor in strategy.model.state_dict().items()}
    return {
        "experience": strategy.clock.train_exp_counter,
        "classes": None if classes is None else classes.tolist(),
        "epochs": strategy.train_epochs,
        "iterations": len(strategy.dataloader),
        "batch size": strategy.train_mb_size,
        "schedules": [type(schedule).__name__ for schedule in _schedules(strategy)],
        "optimizer": type(strategy.optimizer).__name__,
        **_plain(strategy.optimizer.defaults),
        **shapes,
    }


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Only numbers and lists of them: what may be loaded without running code."""
    return {name: value for name, value in state.items() if isinstance(value, (bool, int, float, list))}


def _random_states() -> dict[str, Any]:
    numpy_state = numpy.random.get_state(legacy=False)  # noqa: NPY002  the global one is meant
    mersenne = numpy_state["state"]
    python_version, python_keys, python_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": {**numpy_state, "state": {**mersenne, "key": torch.from_numpy(mersenne["key"].astype("int64"))}},
        "python": [python_version, list(python_keys), python_gauss],
    }


def _restore_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
    mersenne = states["numpy"]["state"]
    key = mersenne["key"].numpy().astype("uint32")
    numpy.random.set_state({**states["numpy"], "state": {**mersenne, "key": key}})  # noqa: NPY002
    python_version, python_keys, python_gauss = states["python"]
    random.setstate((python_version, tuple(python_keys), python_gauss))
