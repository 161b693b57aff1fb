"""The engine's methods on extracted features, and joint training of the same head."""

from __future__ import annotations

import torch
from torch import Tensor

from acil.backbones import create_backbone
from acil.head import ExactHead
from acil.learner import AnalyticLearner
from acil.methods import create_learner
from acil.strategies.contenders.contender import Contender, Phase, Start, size


class Analytic(Contender):
    """One of ``acil.methods``, phase by phase.

    Args:
        start: where it begins.
        method: its name.
    """

    def __init__(self, start: Start, method: str) -> None:
        self.num_classes = start.num_classes
        learner = create_learner(
            create_backbone("identity", channels=start.num_features),
            method=method,
            buffer_size=start.buffer_size,
            gamma=start.gamma or "auto",
            bits=start.bits,
            seed=start.seed,
        )
        self.learner: AnalyticLearner = learner.to(start.device)

    def learn(self, phase: Phase) -> None:
        """Add the phase to the moments, and solve."""
        self._learn(phase.inputs, phase.labels)

    def scores(self, inputs: Tensor) -> Tensor:
        """Logits at the columns of their labels."""
        logits = self.learner.classify(inputs.to(self.learner.device))
        scores = logits.new_full((len(inputs), self.num_classes), -torch.inf)
        scores[:, self.learner.classes] = logits
        return scores

    def kept_bytes(self) -> int:
        """Buffer layer, moments and weights."""
        return size(*self.learner.buffer.buffers(), *self.learner.head.buffers())

    def gamma(self) -> float:
        """As it was chosen for the present weights."""
        return self.learner.head.chosen_gamma

    def digest(self) -> str | None:
        """Of the moments, where they are integers."""
        return self.learner.digest() if isinstance(self.learner.head, ExactHead) else None

    def _learn(self, features: Tensor, labels: Tensor) -> None:
        self.learner.learn_features(features.to(self.learner.device), labels.to(self.learner.device))
        _ = self.learner.head.weight  # the solve belongs to learning


class Joint(Analytic):
    """The head of a method, learned anew in every phase on all samples so far at once, in another order."""

    keeps_data = True

    def __init__(self, start: Start, method: str) -> None:
        super().__init__(start, method)
        self.features = torch.empty(0, start.num_features)
        self.labels = torch.empty(0, dtype=torch.int64)
        self.generator = torch.Generator().manual_seed(start.seed)

    def learn(self, phase: Phase) -> None:
        """Forget the head, and learn everything seen."""
        if phase.number == 0:
            # The frozen path, quantiser included, is fixed by the first phase: it is the same for all.
            self.learner.calibrate(phase.inputs.to(self.learner.device))
        self.features = torch.cat([self.features, phase.inputs])
        self.labels = torch.cat([self.labels, phase.labels])
        self.learner = self.learner.fresh()
        order = torch.randperm(len(self.labels), generator=self.generator)
        self._learn(self.features[order], self.labels[order])

    def kept_bytes(self) -> int:
        """All features seen as well."""
        return super().kept_bytes() + size(self.features, self.labels)
