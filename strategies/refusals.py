"""Plugins and settings that would silently break exactness, and where they belong instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

# What a family of Avalanche's plugins does that one pass without gradients cannot bear. By name, since the
# classes lie in many modules and differ between versions.
REFUSED = {
    "serves samples again or others instead": {
        "BatchAugmentation",
        "BiCPlugin",
        "CoPEPlugin",
        "GDumbPlugin",
        "GSS_greedyPlugin",
        "GenerativeReplayPlugin",
        "MIRPlugin",
        "OpenSetPlugin",
        "RARPlugin",
        "ReplayPlugin",
        "TrainGeneratorAfterExpPlugin",
        "_ICaRLPlugin",
    },
    "shapes gradients or weights, of which nothing is trained here": {
        "AGEMPlugin",
        "CWRStarPlugin",
        "EWCPlugin",
        "EpochCheckpoint",
        "FeatureDistillationPlugin",
        "FromScratchTrainingPlugin",
        "GEMPlugin",
        "LFLPlugin",
        "LogitPlugin",
        "LRSchedulerPlugin",
        "LearningRateSchedule",
        "LwFPlugin",
        "MASPlugin",
        "NormalisationStatistics",
        "PackNetPlugin",
        "RWalkPlugin",
        "SynapticIntelligencePlugin",
        "_ExpertGatePlugin",
    },
    "fits a classifier of its own": {
        "CurrentDataFeCAMUpdate",
        "CurrentDataNCMUpdate",
        "FeCAMOracle",
        "MemoryFeCAMUpdate",
        "MemoryNCMUpdate",
        "NCMOracle",
    },
    "may end the one pass before every sample was seen": {"EarlyStoppingPlugin"},
}


def refuse_plugins(plugins: Sequence[Any]) -> None:
    """Refuse plugins that change what is learned, by what they do.

    Raises:
        ValueError: names the plugin and where it belongs.
    """
    for plugin in plugins:
        kinds = {kind.__name__ for kind in type(plugin).__mro__}
        for reason, names in REFUSED.items():
            if kinds & names:
                raise ValueError(
                    f"{type(plugin).__name__} {reason}: ACIL learns each sample once, in closed form, and "
                    "needs no help to remember; give the plugin to the strategy passed as base_training, "
                    "where it can shape the backbone"
                )


def refuse_epochs(train_epochs: int) -> None:
    """Refuse more or less than one pass over the data.

    Raises:
        ValueError: says where epochs belong.
    """
    if train_epochs != 1:
        raise ValueError(
            f"train_epochs={train_epochs} would learn every sample {train_epochs} times; ACIL makes exactly "
            "one pass. Set epochs on the strategy passed as base_training"
        )


def refuse_other_samples(served: int, expected: int) -> None:
    """Refuse a loader that served more or fewer samples than the experience holds.

    Raises:
        ValueError: quotes both counts; nothing was learned then.
    """
    if served != expected:
        raise ValueError(
            f"the loader served {served} samples of an experience that holds {expected}: a plugin or loader "
            "setting adds, repeats or drops samples, which breaks equality with joint training; remove it, "
            "or give it to the strategy passed as base_training"
        )


def refuse_other_network(network: nn.Module, backbone: nn.Module) -> None:
    """Refuse to train a network that the learner's backbone is no part of.

    Raises:
        ValueError: says how to build one.
    """
    if all(part is not backbone for part in network.modules()):
        raise ValueError(
            "base_training trains another network: its model must contain the very module model.backbone, "
            "for example nn.Sequential(model.backbone, nn.Linear(features, classes))"
        )
