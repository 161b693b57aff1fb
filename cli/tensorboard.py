"""What a run shows in TensorBoard, through Avalanche's logger."""

from __future__ import annotations

from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.logging import TensorboardLogger
from avalanche.training.plugins import EvaluationPlugin

from acil.cli.results import TENSORBOARD, RunFolder
from acil.evaluate import ClassCounts


def open_log(folder: RunFolder) -> TensorboardLogger | None:
    """The log of a run that was asked for one, which is to say that has a folder for it; None for others."""
    path = folder.path / TENSORBOARD
    return TensorboardLogger(path) if path.is_dir() else None


def base_training_evaluator(log: TensorboardLogger | None) -> EvaluationPlugin | None:
    """Loss and accuracy of every epoch of base training."""
    if log is None:
        return None
    return EvaluationPlugin(accuracy_metrics(epoch=True), loss_metrics(epoch=True), loggers=[log])


def log_phase(log: TensorboardLogger | None, phase: int, counts: ClassCounts, learning_seconds: float) -> None:
    """Accuracy on all classes seen, their number, and the time to learn, by phase.

    From counts that are there anyway: Avalanche's own metrics would evaluate every phase's stream after every phase.
    """
    if log is None:
        return
    figures = {
        "phases/accuracy": counts.accuracy,
        "phases/classes_seen": len(counts.total),
        "phases/learning_seconds": learning_seconds,
    }
    for name, value in figures.items():
        log.log_single_metric(name, value, phase)
    log.writer.flush()
