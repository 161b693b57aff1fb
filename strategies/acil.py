"""The engine as an Avalanche strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from avalanche.benchmarks.utils.data_loader import collate_from_data_or_kwargs
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.plugins.evaluation import default_evaluator
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.utils.data import DataLoader

from acil.evaluate import ClassCounts, count_correct
from acil.head import Gamma
from acil.learner import AnalyticLearner
from acil.methods import create_learner
from acil.strategies.refusals import (
    refuse_epochs,
    refuse_other_network,
    refuse_other_samples,
    refuse_plugins,
)

# The logit of a class that was never learned: below every ridge logit, finite so that losses stay finite.
UNSEEN_LOGIT = -1e4

# Features, labels and, where the benchmark has them, task labels.
MiniBatch = list[Tensor]


class ACIL(SupervisedTemplate):  # type: ignore[misc]
    """Analytic class-incremental learning: base training, re-alignment, then one pass per experience.

    On the first experience the backbone is trained by ``base_training`` (where given), frozen, and the head
    is solved on its features (re-alignment). Every experience, the first included, is then learned in one
    pass without gradients, and the classifier equals the one that joint training of the head gives.

    What plugins see: ``mb_x`` holds images while training and their *features* while evaluating, since a
    test image goes through the backbone once and is reused after every experience; ``mb_output`` holds
    logits for the labels from 0 to the largest known, of the classifier as it was before the experience
    while training.

    Args:
        model: the learner; its state is all that the strategy knows of past experiences.
        base_training: an Avalanche strategy whose model contains ``model.backbone``; None where the backbone
            is pretrained. Plugins that shape a backbone (replay, regularisers, schedulers) belong to it.
        criterion: loss reported to loggers; nothing is trained with it.
        train_mb_size: images per mini-batch.
        train_epochs: must be 1.
        eval_mb_size: images per mini-batch of an evaluation.
        device: where to compute.
        plugins: Avalanche plugins that neither change data nor need gradients.
        evaluator: metrics and loggers.
        eval_every: as in Avalanche; -1 never evaluates during training, 0 after every experience.

    Raises:
        ValueError: a plugin or setting would silently break exactness, or ``base_training`` trains another
            backbone.

    References:
        Zhuang et al., "ACIL", NeurIPS 2022; Zhuang et al., "GACL", NeurIPS 2024 for experiences that mix old
        and new classes.
    """

    method = "acil"  # what ``from_backbone`` builds
    model: AnalyticLearner
    dataloader: Iterable[MiniBatch]
    mbatch: MiniBatch
    _stop_training: bool

    def __init__(
        self,
        *,
        model: AnalyticLearner,
        base_training: SupervisedTemplate | None = None,
        criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
        train_mb_size: int = 128,
        train_epochs: int = 1,
        eval_mb_size: int = 128,
        device: str | torch.device = "cpu",
        plugins: Sequence[Any] | None = None,
        evaluator: EvaluationPlugin | Callable[[], EvaluationPlugin] | None = default_evaluator,
        eval_every: int = -1,
    ) -> None:
        refuse_epochs(train_epochs)
        if not isinstance(model, AnalyticLearner):
            given = type(model).__name__
            raise ValueError(f"model must be an AnalyticLearner, got {given}; for a backbone use ACIL.from_backbone(...)")
        if base_training is not None:
            refuse_other_network(base_training.model, model.backbone)
        super().__init__(
            model=model,
            optimizer=None,
            criterion=criterion or nn.CrossEntropyLoss(),
            train_mb_size=train_mb_size,
            train_epochs=train_epochs,
            eval_mb_size=eval_mb_size,
            device=device,
            plugins=plugins,
            evaluator=evaluator,
            eval_every=eval_every,
        )
        model.freeze()  # a base training that was prepared, but is not needed, may have thawed it
        self.base_training = base_training
        self._extracted: WeakKeyDictionary[Any, list[MiniBatch]] = WeakKeyDictionary()

    @classmethod
    def from_backbone(
        cls,
        backbone: nn.Module,
        *,
        buffer_size: int = 2048,
        gamma: Gamma = "auto",
        num_features: int | None = None,
        **options: Any,
    ) -> ACIL:
        """The strategy with a new learner of its method.

        Args:
            backbone: maps images (n, C, H, W) to features (n, f).
            buffer_size: width d of the buffer layer.
            gamma: ridge, above 0, or "auto".
            num_features: f; may be left out for a backbone of ``create_backbone``.
            options: what the constructor takes beside ``model``.

        Raises:
            ValueError: a setting does not fit.
        """
        learner = create_learner(
            backbone, method=cls.method, buffer_size=buffer_size, gamma=gamma, num_features=num_features
        )
        return cls(model=learner, **options)

    def evaluate(self, experiences: Any) -> ClassCounts:
        """Accuracy by class over the classes learned so far, from features that are extracted once.

        Faster than ``eval``: one pass however many experiences there are. Group the counts by class for a
        task-by-task matrix (``ClassCounts.accuracy_on``).

        Args:
            experiences: a test stream, some of its experiences, or one.

        Raises:
            ValueError: there is no experience.
        """
        features, labels = [], []
        if not isinstance(experiences, Iterable):
            experiences = [experiences]
        for experience in experiences:
            for batch in self._features_of(experience.dataset):
                features.append(batch[0])
                labels.append(batch[1])
        if not features:
            raise ValueError("there is nothing to evaluate on; give at least one experience that holds data")
        return self._count(torch.cat(features), torch.cat(labels))

    def make_optimizer(self, **kwargs: Any) -> None:
        """Nothing: there are no gradients."""

    def model_adaptation(self, model: nn.Module | None = None) -> nn.Module:
        """The learner as it is: its head widens while it learns, and ``forward`` widens the logits."""
        return self.model if model is None else model

    def check_model_and_optimizer(self, **kwargs: Any) -> None:
        """Base training, before anything is learned."""
        if self.base_training is not None and not len(self.model.classes):
            self._train_backbone(self.base_training)

    def make_train_dataloader(
        self, num_workers: int = 0, pin_memory: bool | None = None, drop_last: bool = False, **kwargs: Any
    ) -> None:
        """A plain loader that serves every sample once; Avalanche's own repeats samples of small tasks.

        Raises:
            ValueError: ``drop_last`` would leave samples out.
        """
        if drop_last:
            raise ValueError("drop_last=True would leave samples unlearned; ACIL learns every sample once")
        self.dataloader = self._loader(self.adapted_dataset, self.train_mb_size, num_workers, pin_memory)

    def make_eval_dataloader(self, num_workers: int = 0, pin_memory: bool | None = None, **kwargs: Any) -> None:
        """Mini-batches of features, extracted at the first evaluation of a data set."""
        self.dataloader = self._features_of(self.experience.dataset, num_workers, pin_memory)

    def training_epoch(self, **kwargs: Any) -> None:
        """One pass: every mini-batch goes through backbone and hooks, then the experience is learned."""
        refuse_epochs(self.train_epochs)
        features, labels = [], []
        for self.mbatch in self.dataloader:  # noqa: B020 - plugins read the attribute
            if self._stop_training:
                break
            self._unpack_minibatch()
            self._before_training_iteration(**kwargs)
            self.loss = self._make_empty_loss()

            self._before_forward(**kwargs)
            features.append(self.model.extract(self.mb_x))
            labels.append(self.mb_y)
            self.mb_output = self._training_output(features[-1])
            self._after_forward(**kwargs)
            self.loss = self.loss + self.criterion()

            self._before_backward(**kwargs)
            self._after_backward(**kwargs)
            self._before_update(**kwargs)
            self._after_update(**kwargs)
            self._after_training_iteration(**kwargs)
        if not self._stop_training:
            refuse_other_samples(sum(map(len, labels)), self._expected_samples())
        self._stop_training = False  # it would skip the next experience of the same call
        self._learn(features, labels)

    def forward(self) -> Tensor:
        """Logits of the current mini-batch of features, for labels from 0 to the largest known."""
        return self._padded(self.model.classify(self.mb_x))

    def _before_training(self, **kwargs: Any) -> None:
        refuse_plugins(self.plugins)
        refuse_epochs(self.train_epochs)
        super()._before_training(**kwargs)

    def _train_backbone(self, base_training: SupervisedTemplate) -> None:
        backbone = self.model.backbone
        backbone.requires_grad_(True)
        try:
            base_training.train(self.experience, eval_streams=[])
        finally:
            self.model.freeze()
            backbone.zero_grad()
            self.model.to(self.device)
            self._extracted.clear()

    def _padded(self, logits: Tensor) -> Tensor:
        """Place (n, K) logits of learned classes at their labels; other labels get a low, finite logit."""
        known = self.model.classes
        labels = [self.mb_y, known, torch.as_tensor(self._expected_classes(), device=known.device)]
        width = 1 + max(int(group.max()) for group in labels if len(group))
        padded = logits.new_full((len(logits), width), UNSEEN_LOGIT)
        padded[:, known] = logits
        return padded

    @torch.no_grad()
    def _training_output(self, features: Tensor) -> Tensor:
        """Logits of training features, of the classifier as it was before the experience."""
        return self._padded(self.model.classify(features))

    def _learn(self, features: list[Tensor], labels: list[Tensor]) -> None:
        if features:
            self.model.learn_features(torch.cat(features), torch.cat(labels))

    def _count(self, features: Tensor, labels: Tensor) -> ClassCounts:
        return count_correct(self.model, features, labels)

    def _expected_samples(self) -> int:
        """How many samples of the experience the loader must serve."""
        return len(self.experience.dataset)

    def _expected_classes(self) -> list[int]:
        """The experience's classes; experiences without task boundaries do not tell."""
        return list(getattr(self.experience, "classes_in_this_experience", None) or [])

    def _features_of(self, dataset: Any, num_workers: int = 0, pin_memory: bool | None = None) -> list[MiniBatch]:
        if dataset not in self._extracted:
            loader = self._loader(dataset.eval(), self.eval_mb_size, num_workers, pin_memory)
            self._extracted[dataset] = [[self.model.extract(images), *rest] for images, *rest in loader]
        return [list(batch) for batch in self._extracted[dataset]]

    def _loader(self, dataset: Any, batch_size: int, num_workers: int, pin_memory: bool | None) -> DataLoader[Any]:
        pinned = self.device.type == "cuda" if pin_memory is None else pin_memory
        options: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers, "pin_memory": pinned}
        collate_from_data_or_kwargs(dataset, options)
        return DataLoader(dataset, **options)

    def _check_plugin_compatibility(self) -> None:
        refuse_plugins(self.plugins)
        super()._check_plugin_compatibility()

    def __getstate__(self) -> dict[str, Any]:
        """Checkpoints hold no features: they can be extracted again."""
        return {**self.__dict__, "_extracted": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._extracted = WeakKeyDictionary()
