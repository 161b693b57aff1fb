"""Checks at the door: every public entry calls them before it changes any state."""

from __future__ import annotations

import torch
from torch import Tensor

# Torch's wider unsigned integers lack most operations.
LABEL_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_features(features: Tensor, dim: int) -> None:
    """Refuse anything but finite floating-point rows of width ``dim``.

    Raises:
        ValueError: says what was expected, what came, and what to do.
    """
    if not isinstance(features, Tensor):
        raise ValueError(f"features must be a torch.Tensor, got {type(features).__name__}")
    if features.ndim != 2 or features.shape[1] != dim:
        raise ValueError(f"features must have shape (n, {dim}), got {tuple(features.shape)}")
    if not features.is_floating_point():
        raise ValueError(f"features must be floating point, got {features.dtype}; call .float() first")
    check_finite(features, "features")


def check_images(images: Tensor) -> None:
    """Refuse anything but finite floating-point or uint8 images; rows of ready features pass as well.

    Raises:
        ValueError: says what was expected, what came, and what to do.
    """
    if not isinstance(images, Tensor) or images.ndim < 2:
        shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"images must be a tensor of shape (n, C, H, W), got {shape}")
    if images.is_floating_point():
        check_finite(images, "images")
    elif images.dtype != torch.uint8:
        raise ValueError(f"images must be floating point in [0, 1] or uint8, got {images.dtype}")


def check_finite(values: Tensor, name: str) -> None:
    """Refuse NaN and infinities.

    Raises:
        ValueError: quotes how many values are not finite and the first row that holds one.
    """
    if bool(torch.isfinite(values.sum())):  # one fast pass; it can be infinite for finite values, never the reverse
        return
    bad = ~torch.isfinite(values)
    count = int(bad.sum())
    if count:
        row = int(bad.reshape(len(values), -1).any(dim=1).nonzero()[0])
        raise ValueError(
            f"{name} contain {count} values that are NaN or infinite, the first in row {row}; remove those rows"
        )


def check_labels(labels: Tensor, rows: int) -> None:
    """Refuse anything but ``rows`` non-negative integer labels.

    Raises:
        ValueError: says what was expected, what came, and what to do.
    """
    if not isinstance(labels, Tensor):
        raise ValueError(f"labels must be a torch.Tensor, got {type(labels).__name__}")
    if labels.dtype not in LABEL_DTYPES:
        raise ValueError(f"labels must be integers, got {labels.dtype}; call .long() first")
    if labels.ndim != 1 or len(labels) != rows:
        raise ValueError(f"labels must have shape ({rows},), one for each row, got {tuple(labels.shape)}")
    if rows and int(labels.min()) < 0:
        raise ValueError(f"labels must be 0 or more, got {int(labels.min())}")


def check_positive(value: float, name: str) -> None:
    """Refuse anything but a finite number above zero.

    Raises:
        ValueError: quotes the value.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")


def check_count(value: int, name: str) -> None:
    """Refuse anything but a whole number of at least 1.

    Raises:
        ValueError: quotes the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
