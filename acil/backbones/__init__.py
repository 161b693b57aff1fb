"""Networks that turn images into features, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from acil.backbones.backbone import Backbone
from acil.backbones.checkpoint import load_checkpoint
from acil.backbones.convnet import ConvNet
from acil.backbones.identity import Identity
from acil.backbones.resnet import CifarResNet
from acil.backbones.wide_resnet import WideResNet
from acil.checks import check_count, check_name, check_path

__all__ = ["Backbone", "available", "create_backbone"]

_NETWORKS: dict[str, Callable[[int], Backbone]] = {
    "convnet": ConvNet,
    "identity": Identity,
    "resnet20": lambda channels: CifarResNet(channels, depth=20),
    "resnet32": lambda channels: CifarResNet(channels, depth=32),
    "wrn-40-2": lambda channels: WideResNet(channels, depth=40, width=2),
}
# A model file holds the weights itself, so it names the network without them.
_WITHOUT_WEIGHTS = {"efficientnet-lite0": "timm:tf_efficientnet_lite0"}


def available() -> list[str]:
    """The names that ``create_backbone`` takes."""
    return [*_NETWORKS, *_WITHOUT_WEIGHTS, "timm:NAME", "torchvision:NAME"]


def create_backbone(name: str, *, channels: int = 3, checkpoint: str | Path | None = None) -> Backbone:
    """Build a backbone, with random weights, those of a checkpoint, or those that ``efficientnet-lite0`` comes with.

    Args:
        name: one of ``available()``, such as ``convnet``, ``efficientnet-lite0`` or ``torchvision:resnet18``.
        channels: channels of the images (for ``identity``: the width of the features).
        checkpoint: a state dict, written by ``torch.save`` or safetensors; a classifier in it is ignored.

    Returns:
        the network, without a classifier.

    Raises:
        ValueError: there is no such backbone, a package that it needs is missing, or channels or checkpoint do not
            fit it; says what would.
    """
    check_count(channels, "channels")
    if isinstance(name, str) and name in _NETWORKS:
        backbone = _NETWORKS[name](channels)
    else:
        backbone = _colour_network(name)
        if channels not in (1, 3):
            raise ValueError(f"{name} takes grey or colour images, got channels={channels}; choose 1 or 3")
    backbone.spec = {"name": _WITHOUT_WEIGHTS.get(name, name), "channels": channels}
    if checkpoint is not None:
        load_checkpoint(backbone, check_path(checkpoint))
        backbone.is_pretrained = True
    return backbone


def _colour_network(name: str) -> Backbone:
    """A network of another library, which is imported only here."""
    family, _, network = name.partition(":") if isinstance(name, str) else ("", "", "")
    if family == "torchvision":
        from acil.backbones.torchvision_networks import TorchvisionNetwork

        return TorchvisionNetwork(network)
    if family == "timm":
        from acil.backbones.timm_networks import TimmNetwork

        return TimmNetwork(network)
    check_name(name, available(), "backbone")
    from acil.backbones.efficientnet_lite0 import efficientnet_lite0

    return efficientnet_lite0()
