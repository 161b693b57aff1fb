"""Losses for noisy labels and foreign images; ``create_loss`` makes one from its name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from acil.checks import check_name
from acil.losses.active_passive import NCE, ActivePassive
from acil.losses.asymmetric import AEL, AGCE, AUL
from acil.losses.logit_clip import LogitClip, check_norm, clip_logits
from acil.losses.logit_norm import LogitNorm, normalise_logits
from acil.losses.loss import Loss, check_tau
from acil.losses.robust import GCE, MAE, RCE, SCE, Focal, PHuberCE, TaylorCE

__all__ = [
    "AEL",
    "AGCE",
    "AUL",
    "GCE",
    "LOSSES",
    "MAE",
    "NCE",
    "RCE",
    "SCE",
    "ActivePassive",
    "Focal",
    "LogitClip",
    "LogitNorm",
    "Loss",
    "PHuberCE",
    "TaylorCE",
    "check_norm",
    "check_tau",
    "clip_logits",
    "create_loss",
    "normalise_logits",
]

# With the settings published for CIFAR-10.
LOSSES: dict[str, Callable[[], nn.Module]] = {
    "ce": nn.CrossEntropyLoss,
    "mae": MAE,
    "gce": GCE,
    "rce": RCE,
    "sce": SCE,
    "taylor-ce": TaylorCE,
    "phuber-ce": PHuberCE,
    "focal": Focal,
    "nce": NCE,
    "agce": AGCE,
    "aul": AUL,
    "ael": AEL,
    "nce+mae": lambda: ActivePassive(NCE(), MAE()),
    "nce+rce": lambda: ActivePassive(NCE(), RCE()),
    "nce+agce": lambda: ActivePassive(NCE(), AGCE(), alpha=1.0, beta=4.0),
    "nce+aul": lambda: ActivePassive(NCE(), AUL(a=6.3, q=1.5), alpha=1.0, beta=4.0),
}


def create_loss(name: str) -> nn.Module:
    """The loss of a name, with the settings published for CIFAR-10.

    Raises:
        ValueError: there is no such loss; says which there are.
    """
    check_name(name, LOSSES, "loss")
    return LOSSES[name]()
