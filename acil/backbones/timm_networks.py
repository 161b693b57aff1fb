"""Any network of timm, without its classifier; nothing is ever downloaded."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor

from acil.backbones.backbone import Backbone, features_of_library
from acil.backbones.images import ImageInput

INSTALL = 'pip install "acil[pretrained]"'


class TimmNetwork(Backbone):
    """A timm network that ends in pooled features, with random weights; images are normalised as it was published for.

    Args:
        network: name in timm's registry, such as ``resnet18``.

    Raises:
        ValueError: timm is not installed, has no such network, or this one does not give one row for each image.
    """

    def __init__(self, network: str) -> None:
        super().__init__()
        timm = _timm()
        if not timm.is_model(network):
            names = timm.list_models()
            near = difflib.get_close_matches(network, names, n=3) or names[:3]
            raise ValueError(f"timm has no network {network!r}; near to it: {', '.join(near)}")
        self.name = network
        self.network = timm.create_model(network, pretrained=False, num_classes=0)
        self.network.to(memory_format=torch.channels_last)  # depthwise convolutions take half the time on CPUs
        published = self.network.pretrained_cfg
        self.images = ImageInput(3, published["mean"], published["std"])
        self.image_size = int(published["input_size"][-1])
        self.num_features = int(self.network.head_hidden_size)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) or grey (n, 1, H, W) in [0, 1], or uint8, to (n, num_features).

        Raises:
            ValueError: the network does not take images of this size.
        """
        values = self.images(images).contiguous(memory_format=torch.channels_last)
        remedy = f"resize them to {self.image_size}x{self.image_size}"
        return features_of_library(self.network, values, f"timm's {self.name}", remedy)


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise ValueError(f"networks of timm need timm; {INSTALL}") from error
    return timm
