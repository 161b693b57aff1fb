"""What a network needs to be a backbone of ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Backbone(nn.Module):
    """Maps images (n, C, H, W), in [0, 1] or uint8, to features (n, ``num_features``) float32.

    Attributes:
        num_features: width of a feature.
        spec: what ``create_backbone`` needs to build it again, with random weights.
        is_pretrained: whether ``create_backbone`` gave it trained weights, so that there is nothing left to train.
        image_size: side of the images that its published weights were trained on; None where there are none.
    """

    num_features: int
    spec: dict[str, Any]
    is_pretrained: bool = False
    image_size: int | None = None


def features_of_library(network: nn.Module, values: Tensor, name: str, remedy: str) -> Tensor:
    """What another library's network makes of normalised images.

    Raises:
        ValueError: it does not take images of this size; says what to do.
    """
    try:
        features: Tensor = network(values)
    except torch.cuda.OutOfMemoryError:
        raise
    except (AssertionError, RuntimeError) as error:  # what libraries say of sizes is for developers
        height, width = values.shape[2:]
        raise ValueError(
            f"{name} fails on images of {height}x{width} ({error}); {remedy}, or choose another network"
        ) from error
    return features
