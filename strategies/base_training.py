"""Base training: the backbone learns from the base phase by back-propagation, before it is frozen."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from copy import copy
from functools import partial
from typing import Any

import torch
from avalanche.benchmarks.utils import (
    DataAttribute,
    DefaultTransformGroups,
    TaskAwareSupervisedClassificationDataset,
)
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
        classes: the K labels that it tells apart.

    Attributes:
        classes: (K,) int64, the label of each logit, ascending.

    Raises:
        ValueError: ``classes`` are no labels.
    """

    classes: Tensor

    def __init__(self, backbone: Backbone, classes: Iterable[int]) -> None:
        super().__init__()
        labels = _labels(classes)
        self.backbone = backbone
        self.classifier = nn.Linear(backbone.num_features, len(labels))
        self.register_buffer("classes", torch.tensor(labels), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, H, W) to logits (n, K)."""
        logits: Tensor = self.classifier(self.backbone(images))
        return logits


class BaseTraining(Naive):  # type: ignore[misc]
    """Avalanche's Naive, for a ``ClassifierNetwork`` of the base classes alone, whatever their labels are.

    Criterion, metrics and plugins see the experience's labels as the positions of their logits, 0..K-1. Logits of
    labels that do not occur would take part in the loss: clipped or normalised logits cannot be pushed away from them,
    and label smoothing is shared with them. Only experiences of the network's classes can be trained and evaluated on.
    """

    def train_dataset_adaptation(self, **kwargs: Any) -> None:
        """Number the experience's labels.

        Raises:
            ValueError: a label is none of the network's classes.
        """
        self.experience: Any = _numbered(self.experience, self.model.classes)
        super().train_dataset_adaptation(**kwargs)

    def eval_dataset_adaptation(self, **kwargs: Any) -> None:
        """Number the experience's labels.

        Raises:
            ValueError: a label is none of the network's classes.
        """
        self.experience = _numbered(self.experience, self.model.classes)
        super().eval_dataset_adaptation(**kwargs)


def _labels(classes: Iterable[int]) -> list[int]:
    if not isinstance(classes, Iterable):
        raise ValueError(f"classes must be labels, such as range(50) or classes_in_this_experience, got {classes!r}")
    try:
        labels = sorted({operator.index(label) for label in classes})
    except TypeError as error:
        raise ValueError(f"classes must be labels, whole numbers from 0 on: {error}") from error
    if not labels or labels[0] < 0:
        raise ValueError(f"classes must be at least one label, and none negative, got {labels}")
    return labels


def _numbered(experience: Any, classes: Tensor) -> Any:
    """A copy of an experience, whose labels are their positions among the classes."""
    position = {label: place for place, label in enumerate(classes.tolist())}
    labels = [int(label) for label in experience.dataset.targets]
    if unknown := sorted(set(labels) - set(position)):
        raise ValueError(
            f"label {unknown[0]} is none of the classes of base training, which are {list(position)}; "
            "give base_training all labels of the experience, and evaluate it on no others"
        )
    positions = [position[label] for label in labels]
    numbered = copy(experience)
    numbered.classes_in_this_experience = sorted(set(positions))
    numbered._dataset = TaskAwareSupervisedClassificationDataset(
        [experience.dataset],
        data_attributes=[DataAttribute(positions, "targets")],
        transform_groups=DefaultTransformGroups((None, partial(_position, position))),
    )
    return numbered


def _position(position: dict[int, int], label: Any) -> int:
    return position[int(label)]


def base_training(
    backbone: Backbone,
    classes: Iterable[int],
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
) -> BaseTraining:
    """The Avalanche strategy that trains a backbone, by SGD with Nesterov momentum 0.9.

    Give it to ``ACIL(base_training=...)``, or call its ``train`` with the base phase.

    Args:
        backbone: the learner's; it is trained in place.
        classes: the K labels of the base phase, such as its ``classes_in_this_experience``; two at least.
        epochs: passes over the base phase.
        learning_rate: the schedule's peak.
        schedule: "one-cycle" or "cosine", by iteration.
        weight_decay: L2 penalty on all weights.
        criterion: maps logits (n, K) and labels (n,), numbered 0..K-1, to a loss, such as one of ``acil.losses``;
            None for cross-entropy.
        augmentation: "affine", "crop-flip" or "none".
        batch_size: images per mini-batch.
        device: where to train.
        plugins: further Avalanche plugins.
        evaluator: metrics and loggers; None for none.

    Raises:
        ValueError: there is no such schedule or augmentation, a number is out of range, or there are less than two
            classes to tell apart.
    """
    for name, count in (("epochs", epochs), ("batch_size", batch_size)):
        check_count(count, name)
    check_positive(learning_rate, "learning_rate")
    network = ClassifierNetwork(backbone, classes)
    if len(network.classes) < 2:
        raise ValueError("base training must have two classes at least, as one alone teaches a network nothing")
    backbone.requires_grad_(True)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=weight_decay
    )
    return BaseTraining(
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
def classifier_accuracy(training: BaseTraining, dataset: Dataset[Any]) -> float:
    """Share of (image, label, ...) items that the base-training classifier gets right, in 0..1."""
    training.model.eval()
    right = 0
    for images, labels, *_ in DataLoader(dataset, batch_size=training.eval_mb_size):
        places = training.model(images.to(training.device)).argmax(dim=1)
        right += int((training.model.classes[places].cpu() == labels).sum())
    return right / len(dataset)  # type: ignore[arg-type]
