"""Buffers whose shape depends on what was learned."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class GrowingState(nn.Module):
    """Lets ``load_state_dict`` restore buffers that have grown since construction.

    A class lists the names of such buffers in ``growing`` and stands first among the bases.
    """

    growing: tuple[str, ...] = ()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.register_load_state_dict_post_hook(_after_loading)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self.growing:
            saved = state_dict.get(prefix + name)
            if saved is not None:
                buffer: Tensor = getattr(self, name)
                setattr(self, name, buffer.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _state_loaded(self) -> None:
        """Called after this module and all in it were loaded: to drop what was derived, to check what came.

        Raises:
            ValueError: the buffers that grow do not fit together.
        """


def _after_loading(module: nn.Module, _: object) -> None:
    assert isinstance(module, GrowingState)
    module._state_loaded()
