"""Avalanche's strategies that learn by gradients: the whole network on images, or its classifier on features."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from avalanche.core import BaseSGDPlugin
from avalanche.logging import BaseLogger
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin, EWCPlugin, LwFPlugin, ReplayPlugin, SupervisedPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer
from torch import Tensor, nn

from acil.strategies.augmentation import augmentation_plugins
from acil.strategies.base_training import ClassifierNetwork
from acil.strategies.contenders.contender import Contender, Phase, Start, size

BATCH = 128
SCORED_INPUTS = 500  # at a time
LWF_ALPHA, LWF_TEMPERATURE = 10.0, 2.0
EWC_LAMBDA = 1000.0
HEAD_RATE = 10.0  # times the learning rate: what a linear classifier on fixed features bears
# Without a bound, EWC's penalties, one more in every phase, become too stiff for any one learning rate, and diverge.
GRADIENT_NORM = 1.0


class BoundedGradient(BaseSGDPlugin):  # type: ignore[misc]
    """Scales a mini-batch's gradient down to a norm of at most ``GRADIENT_NORM``."""

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Just before the optimiser's step."""
        torch.nn.utils.clip_grad_norm_(strategy.model.parameters(), GRADIENT_NORM)


class Gradient(Contender):
    """Fine-tuning from one phase to the next, with a plugin of Avalanche's against forgetting.

    A network that was trained on the first phase does not learn that phase again.

    Args:
        start: where it begins.
        plugin: what remembers; None for plain fine-tuning.
        head_only: train the classifier on extracted features, and leave the backbone alone.

    Raises:
        ValueError: the whole network is to learn, but the data are features.
    """

    def __init__(self, start: Start, plugin: SupervisedPlugin | None, head_only: bool) -> None:
        self.start, self.plugin = start, plugin
        model = _classifier(start) if head_only else _network(start)
        augmentation = [] if head_only else augmentation_plugins(start.augmentation)
        rate = start.learning_rate * (HEAD_RATE if head_only else 1.0)
        self.keeps_data = isinstance(plugin, ReplayPlugin)
        self.strategy = Naive(
            model=model.to(start.device),
            optimizer=torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9),
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=BATCH,
            eval_mb_size=BATCH,
            device=start.device,
            plugins=[*([] if plugin is None else [plugin]), *augmentation, BoundedGradient()],
            evaluator=EvaluationPlugin(loggers=[BaseLogger()]),
        )

    def learn(self, phase: Phase) -> None:
        """Train on the phase; where base training has done so, let the plugin look at it alone."""
        known = self.start.base_trained and phase.number == 0
        self.strategy.train_epochs = 0 if known else self.start.epochs
        self.strategy.train(phase.experience, eval_streams=[])

    @torch.no_grad()
    def scores(self, inputs: Tensor) -> Tensor:
        """Logits."""
        self.strategy.model.eval()
        batches = torch.split(inputs, SCORED_INPUTS)
        return torch.cat([self.strategy.model(batch.to(self.start.device)).cpu() for batch in batches])

    def kept_bytes(self) -> int:
        """What the plugin keeps."""
        if isinstance(self.plugin, ReplayPlugin):
            return self._bytes_of_samples(self.plugin)
        if isinstance(self.plugin, EWCPlugin):
            kept = [*self.plugin.saved_params.values(), *self.plugin.importances.values()]
            return size(*(entry.data for tensors in kept for entry in tensors.values()))
        if isinstance(self.plugin, LwFPlugin):
            return size(*self.plugin.lwf.prev_model.parameters())
        return 0

    def _bytes_of_samples(self, plugin: ReplayPlugin) -> int:
        buffer = plugin.storage_policy.buffer
        sample: Tensor = buffer[0][0]
        stored = torch.float32 if sample.ndim == 1 else torch.uint8
        return len(buffer) * sample.numel() * stored.itemsize


def _classifier(start: Start) -> nn.Linear:
    """A classifier of all classes; rows of base classes as base training left them, others zero."""
    classifier = nn.Linear(start.num_features, start.num_classes)
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    if start.base_trained and start.network is not None:
        classes, trained = start.network.classes, start.network.classifier
        with torch.no_grad():
            classifier.weight[classes] = trained.weight
            classifier.bias[classes] = trained.bias
    return classifier


def _network(start: Start) -> ClassifierNetwork:
    if start.network is None:
        raise ValueError("there is no network to train where the data are features; choose the method's -head variant")
    network = ClassifierNetwork(deepcopy(start.network.backbone), range(start.num_classes))
    network.classifier = _classifier(start)
    network.requires_grad_(True)
    return network


def naive(start: Start, head_only: bool) -> Gradient:
    """Plain fine-tuning."""
    return Gradient(start, None, head_only)


def lwf(start: Start, head_only: bool) -> Gradient:
    """Distillation from the network before the phase.

    References:
        Li and Hoiem, "Learning without Forgetting", ECCV 2016.
    """
    return Gradient(start, LwFPlugin(alpha=LWF_ALPHA, temperature=LWF_TEMPERATURE), head_only)


def ewc(start: Start, head_only: bool) -> Gradient:
    """A quadratic penalty on changes of important weights, one for each phase.

    References:
        Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017.
    """
    return Gradient(start, EWCPlugin(ewc_lambda=EWC_LAMBDA), head_only)


def replay(start: Start, head_only: bool) -> Gradient:
    """Every mini-batch beside one of stored samples, equally many of each class."""
    kept = start.replay_per_class * start.num_classes
    policy: Any = ClassBalancedBuffer(max_size=kept, adaptive_size=False, total_num_classes=start.num_classes)
    return Gradient(start, ReplayPlugin(mem_size=kept, storage_policy=policy), head_only)
