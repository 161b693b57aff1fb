"""No network at all, for features that were computed elsewhere."""

from __future__ import annotations

from torch import Tensor

from acil.backbones.backbone import Backbone


class Identity(Backbone):
    """Passes (n, f) features through.

    Args:
        channels: the width f of a feature.
    """

    is_pretrained = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_features = channels

    def forward(self, features: Tensor) -> Tensor:
        """(n, f) to the same (n, f)."""
        return features
