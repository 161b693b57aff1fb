"""Random projections: the paper's buffer layer."""

from __future__ import annotations

import torch
from torch import Tensor

from acil.buffer.buffer import Buffer


class LinearBuffer(Buffer):
    """A random projection ``f W_B`` without activation; for heads that apply several.

    Args:
        in_features: width of a feature.
        dim: width d of an expanded feature.
        seed: fixes W_B; entries are uniform within +-1/sqrt(in_features), as in the authors' code.
    """

    name = "linear"
    projection: Tensor

    def __init__(self, in_features: int, dim: int, seed: int = 0) -> None:
        super().__init__(in_features, dim, seed)
        uniform = torch.rand(in_features, dim, generator=self._generator())
        self.register_buffer("projection", (2 * uniform - 1) / in_features**0.5)

    def forward(self, features: Tensor) -> Tensor:
        """(n, in_features) to (n, dim), both float32."""
        return features @ self.projection


class RandomBuffer(LinearBuffer):
    """The paper's buffer layer: ``phi = relu(f W_B)`` with a random matrix W_B that is never trained.

    Args:
        in_features: width of a feature.
        dim: width d of an expanded feature.
        seed: fixes W_B, as in ``LinearBuffer``.

    References:
        Zhuang et al., NeurIPS 2022, eq. 4.
    """

    name = "random"

    def forward(self, features: Tensor) -> Tensor:
        """(n, in_features) to (n, dim), both float32."""
        return torch.relu_(super().forward(features))
