"""Checks at the door: every public entry calls them before it changes any state."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

# Torch's wider unsigned integers and its 8-bit floating-point types lack most operations.
LABEL_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
FLOAT_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def check_features(features: Tensor, dim: int) -> None:
    """Refuse anything but finite floating-point rows of width ``dim``.

    Raises:
        ValueError: says what was expected, what came, and what to do.
    """
    check_tensor(features, "features")
    if features.ndim != 2 or features.shape[1] != dim:
        raise ValueError(f"features must have shape (n, {dim}), got {tuple(features.shape)}")
    check_values(features, "features")


def check_images(images: Tensor) -> None:
    """Refuse anything but finite floating-point or uint8 images; rows of ready features pass as well.

    Raises:
        ValueError: says what was expected, what came, and what to do.
    """
    check_tensor(images, "images")
    if images.ndim < 2:
        raise ValueError(f"images must be a tensor of shape (n, C, H, W), got {tuple(images.shape)}")
    if images.dtype in FLOAT_DTYPES:
        check_finite(images, "images")
    elif images.dtype != torch.uint8:
        raise ValueError(f"images must be floating point in [0, 1] or uint8, got {images.dtype}")


def check_tensor(value: object, name: str) -> None:
    """Refuse anything but a dense tensor that holds values.

    Raises:
        ValueError: says what came instead.
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout != torch.strided or value.is_meta:
        raise ValueError(f"{name} must be a dense tensor, got one of layout {value.layout} on {value.device}")


def check_device(value: Tensor, name: str, device: torch.device) -> None:
    """Refuse tensors on another device.

    Raises:
        ValueError: says where it should be.
    """
    if value.device != device:
        raise ValueError(f"{name} must be on {device}, got one on {value.device}; call .to({str(device)!r}) first")


def check_values(values: Tensor, name: str) -> None:
    """Refuse anything but a dense tensor of finite floating-point rows, of whatever width.

    Raises:
        ValueError: says what was expected, what came, and what to do.
    """
    check_tensor(values, name)
    if values.dtype not in FLOAT_DTYPES:
        raise ValueError(f"{name} must be floating point, got {values.dtype}; call .float() first")
    if not values.ndim:
        raise ValueError(f"{name} must be rows, got a single value")
    check_finite(values, name)


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
    check_tensor(labels, "labels")
    if labels.dtype not in LABEL_DTYPES:
        raise ValueError(f"labels must be integers, got {labels.dtype}; call .long() first")
    if labels.ndim != 1 or len(labels) != rows:
        raise ValueError(f"labels must have shape ({rows},), one for each row, got {tuple(labels.shape)}")
    if rows and int(labels.min()) < 0:
        raise ValueError(f"labels must be 0 or more, got {int(labels.min())}")


def check_positive(value: float, name: str) -> None:
    """Refuse anything but a finite number above zero whose inverse is finite as well.

    Raises:
        ValueError: quotes the value.
    """
    smallest, largest = sys.float_info.min, sys.float_info.max
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not smallest <= value <= largest:
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")


def check_count(value: int, name: str) -> None:
    """Refuse anything but a whole number of at least 1, and below 2^31 as memory is finite.

    Raises:
        ValueError: quotes the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise ValueError(f"{name} must be a whole number of at least 1 and below 2^31, got {value!r}")


def check_seed(value: int) -> None:
    """Refuse anything but a whole number of 64 bits.

    Raises:
        ValueError: quotes the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError(f"seed must be a whole number from -2^63 to 2^63 - 1, got {value!r}")


def check_name(name: str, known: Iterable[str], kind: str) -> None:
    """Refuse a name that is not among the known ones.

    Raises:
        ValueError: says which there are, and which is near.
    """
    names = list(known)
    if not isinstance(name, str) or name not in names:
        near = difflib.get_close_matches(name, names, n=1) if isinstance(name, str) else []
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"there is no {kind} {name!r}; {hint}There are: {', '.join(names)}")


def kind_and_number(spec: str, kinds: Iterable[str], what: str) -> tuple[str, float]:
    """Split ``KIND:NUMBER``; the number is NaN where there is none.

    Raises:
        ValueError: there is no such kind; says which there are, and which is near.
    """
    kind, _, number = spec.partition(":")
    check_name(kind, kinds, what)
    try:
        return kind, float(number)
    except ValueError:
        return kind, math.nan


def check_path(path: str | Path) -> Path:
    """The path as a ``Path``, if it is one at all.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(path, (str, Path)) or "\0" in str(path):
        raise ValueError(f"path must be a str or Path of a file, got {path!r}")
    return Path(path)


def check_class_names(names: tuple[str, ...]) -> None:
    """Refuse anything but a sequence of names; one string is none, though Python would take it for its letters.

    Raises:
        ValueError: quotes the value.
    """
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names must be a tuple of str, got {names!r}")


def check_image_shape(shape: tuple[int, ...] | None) -> None:
    """Refuse anything but whole numbers such as (C, H, W), or None where the shape is not known.

    Raises:
        ValueError: quotes the value.
    """
    if shape is not None and not isinstance(shape, (tuple, list)):
        raise ValueError(f"image_shape must be a tuple such as (3, 32, 32), got {shape!r}")
    for size in shape or ():
        check_count(size, "every size in image_shape")


def check_type(value: object, kind: type, name: str) -> None:
    """Refuse objects of another class.

    Raises:
        ValueError: says what came instead.
    """
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
