"""Well-known image data sets by name, read and where needed downloaded by torchvision."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acil.scenarios.cache import cache_folder
from acil.scenarios.labelled import DataSource, LabelledTensors

_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class _Known:
    """How torchvision calls a data set, and where it expects the files (below its root)."""

    dataset: str
    folder: str
    files: str
    augmentation: str
    class_names: tuple[str, ...] = ()  # where torchvision's `classes` is missing or clumsy


_KNOWN = {
    "cifar10": _Known("CIFAR10", "", "cifar-10-python.tar.gz", "crop-flip"),
    "cifar100": _Known("CIFAR100", "", "cifar-100-python.tar.gz", "crop-flip"),
    "fashion-mnist": _Known("FashionMNIST", "FashionMNIST/raw", "the four *-ubyte.gz files", "crop-flip"),
    "mnist": _Known("MNIST", "MNIST/raw", "the four *-ubyte.gz files", "affine", _DIGITS),
    "svhn": _Known("SVHN", "", "train_32x32.mat and test_32x32.mat", "affine", _DIGITS),
}

TORCHVISION_SETS = tuple(_KNOWN)


def torchvision_set(name: str) -> DataSource:
    """Load one of :data:`TORCHVISION_SETS`.

    Files are looked for, and downloaded to, the folder ``torchvision`` in the cache folder. Sources: CIFAR-10
    and CIFAR-100 (Krizhevsky, 2009), MNIST (LeCun et al., 1998), Fashion-MNIST (Xiao et al., 2017), SVHN
    (Netzer et al., 2011).

    Raises:
        ValueError: if the name is another, or the files are neither there nor to be had from the network.
    """
    if name not in _KNOWN:
        raise ValueError(f"no data set of torchvision is known as {name!r}; known are {', '.join(_KNOWN)}")
    import torchvision.datasets

    known = _KNOWN[name]
    root = cache_folder() / "torchvision"
    make = getattr(torchvision.datasets, known.dataset)
    split = "split" if name == "svhn" else "train"
    values = ("train", "test") if name == "svhn" else (True, False)
    try:
        train, test = (_load(make, root, {split: value}) for value in values)
    except (OSError, RuntimeError, HTTPException, EOFError) as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{name} could not be downloaded ({cause}); connect to the network, or put {known.files} "
            f"into {root / known.folder}"
        ) from error
    class_names = known.class_names or tuple(train.classes)
    return DataSource(name, _labelled(train), _labelled(test), class_names, known.augmentation)


def _load(make: Callable[..., Any], root: Path, which: dict[str, Any]) -> Any:
    root.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):  # torchvision prints; a library should not
        return make(root=str(root), download=True, **which)


def _labelled(data: Any) -> LabelledTensors:
    """torchvision's images in any of its layouts as uint8 (n, C, H, W)."""
    images: Tensor = torch.as_tensor(data.data)
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)
    labels = data.labels if hasattr(data, "labels") else data.targets
    return LabelledTensors(images.contiguous(), torch.as_tensor(np.asarray(labels), dtype=torch.int64))
