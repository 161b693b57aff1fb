"""Normalisation statistics of a trained backbone, measured once more when its weights stand still."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.core import BaseSGDPlugin
from torch import nn
from torch.utils.data import DataLoader

from acil.strategies.augmentation import BatchAugmentation


class NormalisationStatistics(BaseSGDPlugin):  # type: ignore[misc]
    """After training, measures mean and variance of every batch normalisation on the augmented training images.

    The running averages of training lag behind the weights. After a few steps they are so far off that a network
    classifies by chance; after many, this costs one pass and changes little. Images are augmented as in training:
    the weights belong to what they saw there, and plain images, without the black borders of random crops, would move
    the statistics away from it.
    """

    @torch.no_grad()
    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """One pass over the experience in training mode, without gradients."""
        layers = [layer for layer in strategy.model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
        layers = [layer for layer in layers if layer.track_running_stats]
        dataset = strategy.experience.dataset.eval()
        size = strategy.train_mb_size
        if not layers or len(dataset) < 2:
            return
        augmentations = [plugin for plugin in strategy.plugins if isinstance(plugin, BatchAugmentation)]
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the average over all batches
        strategy.model.train()
        for images, *_ in DataLoader(dataset, batch_size=size, drop_last=len(dataset) > size):
            images = images.to(strategy.device)
            for augmentation in augmentations:
                images = augmentation.augment(images)
            strategy.model(images)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
