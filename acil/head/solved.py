"""Heads whose weights stand still: what remains of a head when nothing more is to be learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SolvedHead(nn.Module):
    """``logits = phi W`` with weights W (d, K) that never change.

    Args:
        weight: (d, K), kept in float32.
    """

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.float())

    def forward(self, features: Tensor) -> Tensor:
        """(n, d) to (n, K)."""
        return features @ self.weight


class SolvedDualStreamHead(SolvedHead):
    """``logits = [relu(p), tanh(p)] W`` for projections p (n, d) and weights W (2 d, K)."""

    def forward(self, features: Tensor) -> Tensor:
        """(n, d) to (n, K)."""
        return super().forward(torch.cat([torch.relu(features), torch.tanh(features)], dim=1))
