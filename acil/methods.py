"""The published methods by name: which buffer layer and which head make them up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from acil.backbones import Backbone
from acil.buffer import Buffer, FourierBuffer, GaussianKernelBuffer, LinearBuffer, RandomBuffer
from acil.checks import check_image_shape, check_name
from acil.head import DiscriminantHead, DualStreamHead, ExactHead, Gamma, RecursiveHead
from acil.learner import AnalyticLearner

# 128 images of 224x224 pixels at once take a CPU half as long again as 16 and 16, and 2 GB. Fewer than 16 would be no
# faster, and features would depend on the number of threads.
BATCH, BATCH_OF_LARGE_IMAGES = 128, 16
LARGE_IMAGE = 64 * 64  # pixels above which an image is large


@dataclass(frozen=True)
class Method:
    """A way to expand features, and a way to classify what comes out."""

    buffer: Callable[[int, int, int], Buffer]
    head: type[ExactHead] | type[DualStreamHead]


METHODS = {
    "acil": Method(RandomBuffer, ExactHead),
    "fourier": Method(FourierBuffer, ExactHead),
    "lda": Method(RandomBuffer, DiscriminantHead),
    "gkeal": Method(GaussianKernelBuffer, ExactHead),
    "ds-al": Method(LinearBuffer, DualStreamHead),
}


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        ValueError: there is none; says which there are.
    """
    check_name(name, METHODS, "method")
    return METHODS[name]


def create_learner(
    backbone: nn.Module,
    *,
    method: str = "lda",
    buffer_size: int = 2048,
    gamma: Gamma = "auto",
    bits: int = 8,
    recursive: bool = False,
    seed: int = 0,
    num_features: int | None = None,
    class_names: tuple[str, ...] = (),
    image_shape: tuple[int, ...] | None = None,
) -> AnalyticLearner:
    """A learner that has learned nothing yet.

    Args:
        backbone: maps images (n, C, H, W) to features (n, f).
        method: "lda" (on average the best of those that are exact), "acil" (the published one), "fourier", "gkeal" or
            "ds-al".
        buffer_size: width d of the buffer layer.
        gamma: ridge, above 0, or "auto".
        bits: of a quantised feature, 8 or 16.
        recursive: solve by the float64 recursion instead of integer moments; needs a number for gamma.
        seed: fixes the random parts of the buffer layer.
        num_features: f; may be left out for a backbone of ``create_backbone``.
        class_names: a name for each label from 0 on; may be empty.
        image_shape: (C, H, W) of the images, for those who feed the learner later; larger ones pass in smaller batches.

    Raises:
        ValueError: a setting does not fit, or ``num_features`` is needed.
    """
    parts = find_method(method)
    if isinstance(backbone, str):
        raise ValueError(f"backbone must be a module, got a name; make it one: create_backbone({backbone!r})")
    if num_features is None:
        if not isinstance(backbone, Backbone):
            raise ValueError("tell how many features your backbone gives: num_features=...")
        num_features = backbone.num_features
    buffer = parts.buffer(num_features, buffer_size, seed)
    if recursive and parts.head is not ExactHead:
        raise ValueError(f"{method} has no recursion; leave it out, or choose method='acil'")
    head = RecursiveHead(buffer_size, gamma) if recursive else parts.head(buffer_size, gamma, bits)
    return AnalyticLearner(
        backbone,
        buffer,
        head,
        class_names=class_names,
        batch_size=_batch_size(image_shape),
        image_shape=image_shape,
    )


def _batch_size(image_shape: tuple[int, ...] | None) -> int:
    """Images of one pass through the backbone."""
    check_image_shape(image_shape)
    is_large = math.prod((image_shape or ())[1:]) > LARGE_IMAGE
    return BATCH_OF_LARGE_IMAGES if is_large else BATCH
