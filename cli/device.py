"""Where to compute."""

from __future__ import annotations


def usable_device(name: str) -> str:
    """The name of a device that works here; of ``auto``, the best there is.

    Raises:
        ValueError: the device cannot be used here; says which can.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        usable = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise ValueError(f"device {name!r} cannot be used here; choose from: auto, {usable}") from error
    return name
