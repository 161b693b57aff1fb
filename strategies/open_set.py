"""Open-set images with fresh labels beside every mini-batch: plugins of any Avalanche strategy with gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from avalanche.core import BaseSGDPlugin
from torch import Tensor
from torch.utils.data import Dataset

from acil.checks import check_count, kind_and_number


class OpenSetPlugin(BaseSGDPlugin):  # type: ignore[misc]
    """Trains with foreign images beside every mini-batch; a subclass says which labels they are given.

    Each step draws foreign images and a label for each, forwards them together with the mini-batch (normalisation
    statistics are shared) and adds ``eta`` times their cross-entropy to the loss. Criterion, metrics and other
    plugins see the mini-batch alone. All random numbers come from torch's global CPU generator.

    Give it before plugins that augment images, so that foreign images are augmented as well.

    Args:
        foreign: images of no class: uint8 or floating point (n, C, H, W), or a data set whose items begin with an
            image; shaped like the training images. uint8 counts as 0 to 255.
        eta: weight of the foreign images' loss, 0 or more; with 0 nothing changes.
        batch_size: foreign images of a step; None for ``images_per_sample`` times as many as the mini-batch has.

    Attributes:
        images_per_sample: as published.
        classes: (K,) int64, the labels of the experience in ascending order.
        distribution: (K,) float64, the probability with which a foreign image is given each of them.
        weights: (K,) float64, the weight of each of them in the foreign images' loss.

    Raises:
        ValueError: a number is out of range, or there are no images.
    """

    images_per_sample = 1
    classes: Tensor
    distribution: Tensor
    weights: Tensor

    def __init__(self, foreign: Tensor | Dataset[Any], eta: float, batch_size: int | None = None) -> None:
        super().__init__()
        if not eta >= 0 or eta == float("inf"):
            raise ValueError(f"eta must be finite and 0 or more, got {eta!r}")
        if batch_size is not None:
            check_count(batch_size, "batch_size")
        if not len(foreign):  # type: ignore[arg-type]
            raise ValueError("open-set training needs foreign images, got none")
        self.foreign = foreign
        self.eta = eta
        self.batch_size = batch_size
        self._minibatch: list[Tensor] = []

    def label_distribution(self, prior: Tensor) -> Tensor:
        """Probabilities (K,) of foreign labels, given the shares (K,) of the classes among the training labels."""
        raise NotImplementedError

    def label_weights(self, distribution: Tensor) -> Tensor:
        """Weights (K,) of foreign labels in their loss, given their probabilities (K,)."""
        return torch.ones_like(distribution)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Find the classes of the experience, and the distribution of foreign labels."""
        targets = torch.tensor([int(label) for label in strategy.experience.dataset.targets])
        counts = torch.bincount(targets)
        self.classes = counts.nonzero().flatten()
        self.distribution = self.label_distribution(counts[self.classes].double() / len(targets))
        self.weights = self.label_weights(self.distribution)

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Append foreign images to the mini-batch."""
        if self.eta == 0:
            return
        self._minibatch = list(strategy.mbatch)
        known = len(strategy.mb_x)
        strategy.mbatch[0] = self.with_foreign(strategy.mb_x)
        if len(strategy.mbatch) > 2:  # task labels, which models with several heads read
            foreign = strategy.mb_task_id.new_zeros(len(strategy.mb_x) - known)
            strategy.mbatch[-1] = torch.cat([strategy.mb_task_id, foreign])

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Split their logits off, and add their loss."""
        if self.eta == 0:
            return
        known = len(self._minibatch[1])
        foreign = strategy.mb_output[known:]
        strategy.mb_output = strategy.mb_output[:known]
        strategy.mbatch[0] = strategy.mb_x[:known]  # augmented, where a plugin did
        strategy.mbatch[1:] = self._minibatch[1:]
        self._minibatch = []
        strategy.loss = strategy.loss + self.eta * self._loss(foreign)

    def with_foreign(self, images: Tensor) -> Tensor:
        """Images (n, C, H, W), and after them as many foreign ones as a step of that size trains with."""
        if self.eta == 0:
            return images
        return torch.cat([images, self._draw_images(self.batch_size or self.images_per_sample * len(images), images)])

    def _draw_images(self, n: int, like: Tensor) -> Tensor:
        places = torch.randint(len(self.foreign), (n,))  # type: ignore[arg-type]
        if isinstance(self.foreign, Tensor):
            images = self.foreign[places]
        else:
            images = torch.stack([self.foreign[int(place)][0] for place in places])
        if images.shape[1:] != like.shape[1:]:
            expected, given = tuple(like.shape[1:]), tuple(images.shape[1:])
            raise ValueError(f"foreign images must be shaped like the training images, {expected}, got {given}")
        images = images.to(like.device)
        if images.is_floating_point() == like.is_floating_point():
            return images.to(like)
        return images.to(like) / 255 if like.is_floating_point() else (255 * images).round().to(like)

    def _loss(self, logits: Tensor) -> Tensor:
        """Cross-entropy of foreign logits (n, outputs) with fresh labels, normalised by the sum of their weights."""
        drawn = torch.multinomial(self.distribution, len(logits), replacement=True)
        weights = torch.zeros(logits.shape[1], dtype=logits.dtype)
        weights[self.classes] = self.weights.to(logits.dtype)
        return F.cross_entropy(logits, self.classes[drawn].to(logits.device), weight=weights.to(logits.device))


class ODNLPlugin(OpenSetPlugin):
    """Open-set images with uniform labels: robust to wrong labels of the training images.

    Args:
        foreign: as in :class:`OpenSetPlugin`.
        eta: published for CIFAR-10: 2.5 for symmetric noise, 3.0 for asymmetric, 3.5 for instance-dependent.
        batch_size: as in :class:`OpenSetPlugin`.

    References:
        Wei et al., "Open-set label noise can improve robustness against inherent label noise", NeurIPS 2021.
    """

    def __init__(self, foreign: Tensor | Dataset[Any], eta: float = 2.5, batch_size: int | None = None) -> None:
        super().__init__(foreign, eta, batch_size)

    def label_distribution(self, prior: Tensor) -> Tensor:
        """1 / K for every class."""
        return torch.full_like(prior, 1 / len(prior))


class OpenSamplingPlugin(OpenSetPlugin):
    """Open-set images with the labels that the training set lacks: balances long-tailed data.

    Labels come from the complementary distribution ``(alpha - beta_j) / sum_i (alpha - beta_i)`` of the classes'
    shares beta, and weigh K times their probability. It takes ``K alpha - 1`` foreign images for each sample to make
    the labels of both together uniform.

    Args:
        foreign: as in :class:`OpenSetPlugin`.
        eta: as in :class:`OpenSetPlugin`; 1 in the published settings.
        batch_size: as in :class:`OpenSetPlugin`.
        alpha: at least the largest share; None for the largest plus the smallest.

    Raises:
        ValueError: at training, ``alpha`` is below the largest share of a class, or leaves no label to draw.

    References:
        Wei et al., "Open-Sampling: exploring out-of-distribution data for re-balancing long-tailed datasets",
        ICML 2022.
    """

    images_per_sample = 4

    def __init__(
        self,
        foreign: Tensor | Dataset[Any],
        eta: float = 1.0,
        batch_size: int | None = None,
        alpha: float | None = None,
    ) -> None:
        super().__init__(foreign, eta, batch_size)
        self.alpha = alpha

    def label_distribution(self, prior: Tensor) -> Tensor:
        """The complementary distribution."""
        alpha = float(prior.max() + prior.min()) if self.alpha is None else self.alpha
        if not alpha >= float(prior.max()) or not alpha * len(prior) > 1:
            raise ValueError(
                f"alpha must be at least the largest share of a class, {float(prior.max()):.4g}, and above "
                f"{1 / len(prior):.4g}, got {alpha!r}; leave it out for the largest plus the smallest share"
            )
        missing = alpha - prior
        return missing / missing.sum()

    def label_weights(self, distribution: Tensor) -> Tensor:
        """K times the probability of the label."""
        return len(distribution) * distribution


OPEN_SET_PLUGINS: dict[str, type[ODNLPlugin] | type[OpenSamplingPlugin]] = {
    "odnl": ODNLPlugin,
    "open-sampling": OpenSamplingPlugin,
}


def open_set_plugin(spec: str, foreign: Tensor | Dataset[Any]) -> OpenSetPlugin:
    """The plugin of a method's name and weight.

    Args:
        spec: "odnl:ETA" or "open-sampling:ETA"; the weight may be left out.
        foreign: as in :class:`OpenSetPlugin`.

    Raises:
        ValueError: there is no such method, or the weight is out of range.
    """
    name, eta = kind_and_number(spec, OPEN_SET_PLUGINS, "open-set method")
    kind = OPEN_SET_PLUGINS[name]
    return kind(foreign, eta) if ":" in spec else kind(foreign)
