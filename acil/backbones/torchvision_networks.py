"""Any classification network of torchvision, without its last layer."""

from __future__ import annotations

import difflib

import torchvision
from torch import Tensor, nn

from acil.backbones.backbone import Backbone, features_of_library
from acil.backbones.images import IMAGENET_MEAN, IMAGENET_STD, ImageInput

# The Inception family has auxiliary outputs unless told otherwise, warns where its initialisation is left open, and
# was published for inputs in [-1, 1], which `transform_input` makes of those that ImageNet's mean and std give.
INCEPTION = {"aux_logits": False, "init_weights": False, "transform_input": True}


class TorchvisionNetwork(Backbone):
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
        options = INCEPTION if network in ("googlenet", "inception_v3") else {}
        self.name = network
        self.images = ImageInput(3, IMAGENET_MEAN, IMAGENET_STD)
        self.network = torchvision.models.get_model(network, weights=None, **options)
        self.image_size = torchvision.models.get_model_weights(network).DEFAULT.transforms().crop_size[0]
        self.num_features = _remove_last_layer(self.network, network)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) or grey (n, 1, H, W) in [0, 1], or uint8, to (n, num_features).

        Raises:
            ValueError: the network does not take images of this size.
        """
        values = self.images(images)
        remedy = "resize them, for most networks to 224x224"
        return features_of_library(self.network, values, f"torchvision's {self.name}", remedy)


def _remove_last_layer(network: nn.Module, name: str) -> int:
    """Replace the classifier by the identity; returns the width of what it took."""
    for path, layer in reversed(list(network.named_modules())):  # noqa: B007
        if isinstance(layer, nn.Linear):
            break
        if isinstance(layer, nn.Conv2d):
            raise ValueError(f"torchvision's {name} classifies by a convolution; choose a network that ends linearly")
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    return int(layer.in_features)
