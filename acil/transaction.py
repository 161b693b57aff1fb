"""Changes that happen completely or not at all."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain, islice
from types import FrameType
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


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done, so that it comes before a change or after it."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is ever interrupted
        return
    held: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if held:
            handler(*held[0])


def change_by_parts(module: nn.Module, parts: Iterable[Part], change: Callable[[Part], None]) -> None:
    """Change a module by each part, or by none if one of them, or their source, fails.

    A ``change`` by one part must be all or nothing by itself, so a single part costs no copy.
    """
    remaining = iter(parts)
    ahead = list(islice(remaining, 2))
    with all_or_nothing(*([module] if len(ahead) > 1 else [])):
        for part in chain(ahead, remaining):
            change(part)
