"""Changes that happen completely or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain, islice
from typing import TypeVar

from torch import nn

Part = TypeVar("Part")


@contextmanager
def all_or_nothing(*modules: nn.Module) -> Iterator[None]:
    """Give the modules their state back if the block fails or is interrupted, at the price of a copy of it."""
    before = [deepcopy(module.state_dict()) for module in modules]
    try:
        yield
    except BaseException:
        for module, state in zip(modules, before, strict=True):
            module.load_state_dict(state)
        raise


def change_by_parts(module: nn.Module, parts: Iterable[Part], change: Callable[[Part], None]) -> None:
    """Change a module by each part, or by none if one of them, or their source, fails.

    A ``change`` that checks its part first is all or nothing by itself, so a single part costs no copy.
    """
    remaining = iter(parts)
    ahead = list(islice(remaining, 2))
    with all_or_nothing(*([module] if len(ahead) > 1 else [])):
        for part in chain(ahead, remaining):
            change(part)
