"""Base training: the backbone learns from the base phase by back-propagation, before it is frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from avalanche.logging import BaseLogger
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from acil.backbones import Backbone
from acil.checks import check_count, check_positive
from acil.strategies.augmentation import augmentation_plugins
from acil.strategies.normalisation import NormalisationStatistics
from acil.strategies.schedule import LearningRateSchedule


class ClassifierNetwork(nn.Module):
    """A backbone with the linear classifier that trains it, and is thrown away after.

    Args:
        backbone: maps images to (n, ``num_features``).
        outputs: number of logits, the largest label plus one.
    """

    def __init__(self, backbone: Backbone, outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(backbone.num_features, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, H, W) to logits (n, outputs)."""
        logits: Tensor = self.classifier(self.backbone(images))
        return logits


def base_training(
    backbone: Backbone,
    outputs: int,
    *,
    epochs: int,
    learning_rate: float = 0.1,
    schedule: str = "one-cycle",
    weight_decay: float = 5e-4,
    criterion: nn.Module | None = None,
    augmentation: str = "none",
    batch_size: int = 128,
    device: str | torch.device = "cpu",
    plugins: Sequence[Any] = (),
    evaluator: EvaluationPlugin | None = None,
) -> Naive:
    """The Avalanche strategy that trains a backbone, by SGD with Nesterov momentum 0.9.

    Give it to ``ACIL(base_training=...)``, or call its ``train`` with the base phase.

    Args:
        backbone: the learner's; it is trained in place.
        outputs: number of logits, the base phase's largest label plus one.
        epochs: passes over the base phase.
        learning_rate: the schedule's peak.
        schedule: "one-cycle" or "cosine", by iteration.
        weight_decay: L2 penalty on all weights.
        criterion: maps logits (n, outputs) and labels (n,) to a loss, such as one of ``acil.losses``; None for
            cross-entropy.
        augmentation: "affine", "crop-flip" or "none".
        batch_size: images per mini-batch.
        device: where to train.
        plugins: further Avalanche plugins.
        evaluator: metrics and loggers; None for none.

    Raises:
        ValueError: there is no such schedule or augmentation, or a number is out of range.
    """
    for name, count in (("outputs", outputs), ("epochs", epochs), ("batch_size", batch_size)):
        check_count(count, name)
    check_positive(learning_rate, "learning_rate")
    backbone.requires_grad_(True)
    network = ClassifierNetwork(backbone, outputs)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=weight_decay
    )
    return Naive(
        model=network,
        optimizer=optimizer,
        criterion=criterion or nn.CrossEntropyLoss(),
        train_mb_size=batch_size,
        train_epochs=epochs,
        eval_mb_size=batch_size,
        device=device,
        plugins=[
            LearningRateSchedule(schedule),
            NormalisationStatistics(),
            *plugins,
            *augmentation_plugins(augmentation),  # last, so that images which a plugin adds are augmented as well
        ],
        # A logger that ignores everything: without any, Avalanche warns.
        evaluator=evaluator or EvaluationPlugin(loggers=[BaseLogger()]),
    )


@torch.no_grad()
def classifier_accuracy(training: Naive, dataset: Dataset[Any]) -> float:
    """Share of (image, label, ...) items that the base-training classifier gets right, in 0..1."""
    training.model.eval()
    right = 0
    for images, labels, *_ in DataLoader(dataset, batch_size=training.eval_mb_size):
        logits = training.model(images.to(training.device))
        right += int((logits.argmax(dim=1).cpu() == labels).sum())
    return right / len(dataset)  # type: ignore[arg-type]
