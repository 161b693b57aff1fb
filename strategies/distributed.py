"""ACIL on many processes: each learns its share, and the integer moments are added up."""

from __future__ import annotations

from math import nan
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from acil.distributed import Ranks
from acil.evaluate import ClassCounts
from acil.head import ExactHead
from acil.learner import AnalyticLearner
from acil.strategies.acil import ACIL, MiniBatch


class DistributedACIL(ACIL):
    """``ACIL`` on all ranks that torchrun started: equal to a single process, bit for bit.

    Every rank extracts and learns its share of an experience; then every rank's learner holds the moments of the
    whole. Weights are solved where they are used: by ``evaluate`` on the first rank alone. All ranks must make the
    same calls.

    ``mb_output`` and loss are NaN while training, as only the first rank has the weights that they would come from.

    Args:
        ranks: the processes; they are connected here.
        model: the learner, with an ``ExactHead``. The first rank's, with its trained backbone and all that it has
            learned, is copied into the others.
        options: as for ``ACIL``, without ``base_training``.

    Raises:
        ValueError: the head is no ``ExactHead``, or there is a base training.
    """

    def __init__(self, *, ranks: Ranks, model: AnalyticLearner, **options: Any) -> None:
        if options.get("base_training") is not None:
            raise ValueError("ranks share no base training; train the backbone on the first rank, then build this")
        self.ranks = ranks
        exact_head(model)
        ranks.connect()
        ranks.copy_first(model)
        super().__init__(model=model, **options)

    def _expected_samples(self) -> int:
        return len(self.ranks.share(super()._expected_samples()))

    def _loader(self, dataset: Any, *args: Any) -> DataLoader[Any]:
        return super()._loader(dataset.subset(self.ranks.share(len(dataset))), *args)

    def training_epoch(self, **kwargs: Any) -> None:
        """One pass over this rank's share; then the experience is learned by all ranks together."""
        with self.ranks.sharing_processors():
            super().training_epoch(**kwargs)

    def _training_output(self, features: Tensor) -> Tensor:
        return self._padded(features.new_full((len(features), len(self.model.classes)), nan))

    def _learn(self, features: list[Tensor], labels: list[Tensor]) -> None:
        share = [torch.cat(features), torch.cat(labels)] if features else []
        if not self.model.is_calibrated:
            self._calibrate(share)
        learner = self.model.fresh()
        if share:
            learner.learn_features(*share)
        self.ranks.add_up(exact_head(learner))
        self.model.merge(learner)

    def _calibrate(self, share: list[Tensor]) -> None:
        """Calibrate on the features of the whole experience, as a single process does."""
        whole = self.ranks.gather(share)
        if self.ranks.is_first:
            with self.ranks.all_processors():
                self.model.calibrate(whole[0].to(self.model.device))
        self.ranks.copy_first(self.model.buffer, exact_head(self.model).quantizer)

    def _features_of(self, dataset: Any, num_workers: int = 0, pin_memory: bool | None = None) -> list[MiniBatch]:
        if dataset not in self._extracted:
            with self.ranks.sharing_processors():
                share = super()._features_of(dataset, num_workers, pin_memory)
            whole = self.ranks.gather([torch.cat(column) for column in zip(*share, strict=True)])
            batches = zip(*(torch.split(column, self.eval_mb_size) for column in whole), strict=True)
            self._extracted[dataset] = [list(batch) for batch in batches]
        return super()._features_of(dataset)

    def _count(self, features: Tensor, labels: Tensor) -> ClassCounts:
        return self.ranks.from_first(super()._count(features, labels) if self.ranks.is_first else None)


def exact_head(learner: AnalyticLearner) -> ExactHead:
    """The learner's head, if what ranks have learned can be added up in it.

    Raises:
        ValueError: it cannot.
    """
    if not isinstance(learner.head, ExactHead):
        raise ValueError(f"what ranks learn cannot be added up in a {type(learner.head).__name__}; use an ExactHead")
    return learner.head
