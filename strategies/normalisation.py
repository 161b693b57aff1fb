"""Normalisation statistics of a trained backbone, measured once more when its weights stand still."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.core import BaseSGDPlugin
from torch import nn
from torch.utils.data import DataLoader

from acil.strategies.open_set import OpenSetPlugin


class NormalisationStatistics(BaseSGDPlugin):  # type: ignore[misc]
    """After training, measures mean and variance of every batch normalisation on the plain training images.

    Foreign images that were trained beside belong to them: the weights know no other statistics.

    The running averages of training lag behind the weights and belong to augmented images. After a few steps they
    are so far off that a network classifies by chance; after many, this costs one pass and changes little.
    """

    @torch.no_grad()
    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """One pass over the experience in training mode, without augmentation and without gradients."""
        layers = [layer for layer in strategy.model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
        layers = [layer for layer in layers if layer.track_running_stats]
        dataset = strategy.experience.dataset.eval()
        size = strategy.train_mb_size
        if not layers or len(dataset) < 2:
            return
        # Avalanche sorts samples by class: as they lie, batches would vary less than the data do.
        shuffled = DataLoader(
            dataset,
            batch_size=size,
            shuffle=True,
            drop_last=len(dataset) > size,
            generator=torch.Generator().manual_seed(0),
        )
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the average over all batches
        open_set = [plugin for plugin in strategy.plugins if isinstance(plugin, OpenSetPlugin)]
        strategy.model.train()
        try:
            for images, *_ in shuffled:
                for plugin in open_set:
                    images = plugin.with_foreign(images)
                strategy.model(images.to(strategy.device))
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
