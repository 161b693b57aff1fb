"""Any classification network of torchvision, without its last layer."""

from __future__ import annotations

import difflib

import torchvision
from torch import Tensor, nn

from acil.backbones.images import IMAGENET_MEAN, IMAGENET_STD, ImageInput

# Networks with auxiliary outputs build their heads only on request.
WITHOUT_AUXILIARY = {"aux_logits": False, "init_weights": False}


class TorchvisionNetwork(nn.Module):
    """A torchvision network that ends in features.

    Args:
        network: name in torchvision's registry of classification models, such as ``resnet18``.

    Raises:
        ValueError: there is no such network, or it does not end in a linear layer.
    """

    def __init__(self, network: str) -> None:
        super().__init__()
        names = torchvision.models.list_models(module=torchvision.models)
        if network not in names:
            near = difflib.get_close_matches(network, names, n=3) or names[:3]
            raise ValueError(f"torchvision has no classification network {network!r}; near to it: {', '.join(near)}")
        options = WITHOUT_AUXILIARY if network in ("googlenet", "inception_v3") else {}
        self.images = ImageInput(3, IMAGENET_MEAN, IMAGENET_STD)
        self.network = torchvision.models.get_model(network, weights=None, **options)
        self.num_features = _remove_last_layer(self.network, network)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) or grey (n, 1, H, W) in [0, 1], or uint8, to (n, num_features)."""
        features: Tensor = self.network(self.images(images))
        return features


def _remove_last_layer(network: nn.Module, name: str) -> int:
    """Replace the classifier by the identity; returns the width of what it took."""
    path, layer = list(network.named_modules())[-1]
    for path, layer in reversed(list(network.named_modules())):  # noqa: B007
        if isinstance(layer, nn.Linear):
            break
        if isinstance(layer, nn.Conv2d):
            raise ValueError(f"torchvision's {name} classifies by a convolution; choose a network that ends linearly")
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    return int(layer.in_features)
