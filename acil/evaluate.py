"""Accuracy by class, from features that were extracted once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from acil.learner import AnalyticLearner

# Rows classified at a time, so that their expansion stays small beside the moments.
CLASSIFIED_ROWS = 2_048


@dataclass(frozen=True)
class ClassCounts:
    """How many test samples of each class there are, and how many of them were classified right."""

    correct: dict[int, int]
    total: dict[int, int]

    @classmethod
    def of(cls, labels: Tensor, right: Tensor) -> ClassCounts:
        """Counts by class of (n,) labels, of which those where ``right`` is true were classified right."""
        classes, places = torch.unique(labels, return_inverse=True)
        total = torch.bincount(places, minlength=len(classes)).tolist()
        correct = torch.bincount(places[right], minlength=len(classes)).tolist()
        names = classes.tolist()
        return cls(dict(zip(names, correct, strict=True)), dict(zip(names, total, strict=True)))

    @property
    def accuracy(self) -> float:
        """Share of all samples classified right, in 0..1; 0 where there are none."""
        return self.accuracy_on(self.total)

    def accuracy_on(self, classes: Iterable[int]) -> float:
        """Share of the samples of ``classes`` classified right, in 0..1; 0 where there are none."""
        present = [label for label in classes if label in self.total]
        samples = sum(self.total[label] for label in present)
        return sum(self.correct[label] for label in present) / samples if samples else 0.0


@torch.no_grad()
def count_correct(learner: AnalyticLearner, features: Tensor, labels: Tensor) -> ClassCounts:
    """Classify features, and count by class over the classes that the learner has seen.

    Args:
        learner: the classifier after some phase.
        features: (n, f), from ``AnalyticLearner.extract``.
        labels: (n,) integers; samples of classes not learned yet are left out.

    Returns:
        the counts of every learned class that occurs in ``labels``.
    """
    classes = learner.classes.cpu()
    known = torch.isin(labels.cpu(), classes)
    features, labels = features[known.to(features.device)], labels.cpu()[known]
    right = [torch.zeros(0, dtype=torch.bool)]
    for rows, truth in zip(torch.split(features, CLASSIFIED_ROWS), torch.split(labels, CLASSIFIED_ROWS), strict=True):
        if len(rows):
            right.append(classes[learner.classify(rows.to(learner.device)).argmax(dim=1).cpu()] == truth)
    return ClassCounts.of(labels, torch.cat(right))
