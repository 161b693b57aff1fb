"""Peers that keep statistics of the features of each class."""

from __future__ import annotations

import os
from contextlib import redirect_stdout
from pathlib import Path

import torch
from avalanche.logging import BaseLogger
from avalanche.models import NCMClassifier
from avalanche.training import StreamingLDA
from avalanche.training.plugins import EvaluationPlugin
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from acil.strategies.contenders.contender import Contender, Phase, Start, size


class NearestClassMean(Contender):
    """Avalanche's classifier by the nearest mean of normalised features.

    References:
        Mensink et al., "Distance-Based Image Classification", TPAMI 2013; normalised as in Rebuffi et al., "iCaRL",
        CVPR 2017.
    """

    def __init__(self, start: Start) -> None:
        self.num_classes = start.num_classes
        self.classifier = NCMClassifier(normalize=True)

    def learn(self, phase: Phase) -> None:
        """Measure the means of the phase's classes, which must be new."""
        features, classes = normalize(phase.inputs), torch.unique(phase.labels)
        means = normalize(torch.stack([features[phase.labels == label].mean(dim=0) for label in classes]))
        self.classifier.update_class_means_dict(dict(zip(classes.tolist(), means, strict=True)))

    def scores(self, inputs: Tensor) -> Tensor:
        """Negative distances."""
        distances = self.classifier(inputs)
        return pad(distances, (0, self.num_classes - distances.shape[1]))

    def kept_bytes(self) -> int:
        """The means."""
        return size(self.classifier.class_means)


class DeepSLDA(Contender):
    """Avalanche's StreamingLDA: class means and one covariance that learns from every sample.

    References:
        Hayes and Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis", CVPRW 2020.
    """

    def __init__(self, start: Start) -> None:
        self.strategy = StreamingLDA(
            slda_model=nn.Identity(),
            criterion=nn.CrossEntropyLoss(),
            input_size=start.num_features,
            num_classes=start.num_classes,
            device=start.device,
            evaluator=EvaluationPlugin(loggers=[BaseLogger()]),
        )

    def learn(self, phase: Phase) -> None:
        """The first phase at once, as published; then sample by sample."""
        if phase.number == 0:
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                self.strategy.fit_base(phase.inputs.to(self.strategy.device), phase.labels.to(self.strategy.device))
        else:
            # It inverts the covariance once for every mini-batch.
            self.strategy.train_mb_size = len(phase.labels)
            self.strategy.train(phase.experience, eval_streams=[])

    def scores(self, inputs: Tensor) -> Tensor:
        """Linear discriminants."""
        scores: Tensor = self.strategy.predict(inputs.to(self.strategy.device))
        return scores

    def kept_bytes(self) -> int:
        """Means, counts and covariance."""
        return size(self.strategy.muK, self.strategy.cK, self.strategy.Sigma)
