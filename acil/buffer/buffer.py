"""What every buffer layer offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from acil.checks import check_count, check_features, check_seed


class Buffer(nn.Module, ABC):
    """A fixed expansion of features (n, ``in_features``) to expanded features (n, ``dim``); never trained.

    Args:
        in_features: width of a feature.
        dim: width d of an expanded feature.
        seed: fixes what is random in it.

    Attributes:
        name: what files and the command line call it.
    """

    name: ClassVar[str]

    def __init__(self, in_features: int, dim: int, seed: int = 0) -> None:
        super().__init__()
        check_count(in_features, "in_features")
        check_count(dim, "dim")
        check_seed(seed)
        self.in_features = in_features
        self.dim = dim
        self.seed = seed

    @property
    def spec(self) -> dict[str, Any]:
        """What ``create_buffer`` needs to build it again; its state comes from the state dict."""
        return {"name": self.name, "in_features": self.in_features, "dim": self.dim, "seed": self.seed}

    @property
    def is_calibrated(self) -> bool:
        """Whether the expansion is fixed already; some take statistics of the first features learned."""
        return True

    def check(self, features: Tensor) -> None:
        """Refuse anything but (n, in_features) features that float32 can expand.

        Raises:
            ValueError: shapes, dtypes or values differ.
        """
        check_features(features, self.in_features)
        largest = torch.finfo(torch.float32).max / self.in_features**0.5
        if len(features) and float(features.abs().max()) > largest:
            raise ValueError(f"features must lie within +-{largest:.3g} to be expanded in float32; scale them down")

    def calibrate(self, features: Tensor) -> None:
        """Fix what follows from typical (n, in_features) features, once; by default nothing.

        Raises:
            ValueError: shapes, dtypes or values differ, there are no rows, or it is fixed already; nothing has
                changed then.
        """
        self.check(features)
        if not len(features):
            raise ValueError("calibration needs at least one row of features, got none")

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """(n, in_features) to (n, dim), both float32."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Buffer:
        """Moves as any module does, but stays float32 when ``half()`` and the like cast the learner."""
        before = dict(self.named_buffers())
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in before.items():
            setattr(self, name, tensor.to(getattr(self, name).device))
        return self

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)
