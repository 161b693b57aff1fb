"""Buffers whose shape depends on what was learned."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class GrowingState:
    """Lets ``load_state_dict`` restore buffers that have grown since construction.

    A class lists the names of such buffers in ``growing`` and stands before ``nn.Module`` in its bases.
    """

    growing: tuple[str, ...] = ()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self.growing:
            saved = state_dict.get(prefix + name)
            if saved is not None:
                buffer: Tensor = getattr(self, name)
                setattr(self, name, buffer.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[misc]
        self._state_loaded()

    def _state_loaded(self) -> None:
        """Called after buffers were loaded; a class that caches what it derives from them drops it here."""
