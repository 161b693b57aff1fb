"""Labelled data in memory (or mapped from a file), and a training and a test set of it with their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

AUGMENTATIONS = ("affine", "crop-flip", "none")


class LabelledTensors(Dataset[tuple[Tensor, int]]):
    """Images or feature rows with their labels.

    Item ``i`` is the pair (input, label): an image as float32 (C, H, W) in [0, 1], a feature row as it is.

    Args:
        inputs: uint8 images (n, C, H, W), or float32 feature rows (n, f) without NaN or infinity. The memory
            may be mapped from a file.
        targets: int64 labels (n,), none negative.

    Attributes:
        inputs: as given; read them in batches for speed.
        targets: as given; the name that Avalanche and torchvision use for labels.

    Raises:
        ValueError: if a shape, dtype, length or value is another.
    """

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        _check_inputs(inputs)
        _check_targets(targets, len(inputs))
        self.inputs = inputs
        self.targets = targets

    @property
    def is_features(self) -> bool:
        """Whether items are feature rows and not images."""
        return self.inputs.ndim == 2

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        item = self.inputs[index]
        item = item.clone() if self.is_features else item.to(torch.float32) / 255
        return item, int(self.targets[index])

    def subset(self, indices: Sequence[int] | Tensor) -> LabelledTensors:
        """The items at these places, in this order, copied into memory.

        Raises:
            ValueError: if an index is not a whole number from 0 to ``len(self) - 1``.
        """
        places = torch.as_tensor(indices)
        if places.numel() == 0:
            places = places.to(torch.int64)
        if places.ndim != 1 or places.dtype == torch.bool or places.is_floating_point():
            raise ValueError(
                f"expected a flat list of whole-number indices, got {places.dtype} of shape "
                f"{tuple(places.shape)}; turn a mask into indices with mask.nonzero().flatten()"
            )
        places = places.to(torch.int64)
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < len(self):
            raise ValueError(
                f"expected indices from 0 to {len(self) - 1}, got {int(places.min())} to {int(places.max())}"
            )
        return LabelledTensors(self.inputs[places], self.targets[places])


@dataclass(frozen=True)
class DataSource:
    """A data set ready for class-incremental learning.

    Attributes:
        name: what the user calls it, for example ``"glyphs"``.
        train: the training items.
        test: the test items, of the same kind and shape.
        class_names: one name for each label; label ``k`` is ``class_names[k]``.
        augmentation: what base training may do to an image without changing its class: ``"affine"`` (letters
            and digits), ``"crop-flip"`` (photographs) or ``"none"``.

    Raises:
        ValueError: if the parts do not fit together.
    """

    name: str
    train: LabelledTensors
    test: LabelledTensors
    class_names: tuple[str, ...]
    augmentation: str

    def __post_init__(self) -> None:
        if self.augmentation not in AUGMENTATIONS:
            raise ValueError(f"augmentation must be one of {AUGMENTATIONS}, got {self.augmentation!r}")
        for part, data in (("training", self.train), ("test", self.test)):
            if len(data) == 0:
                raise ValueError(f"{self.name}: the {part} set is empty; it needs at least one item")
            if (largest := int(data.targets.max())) >= self.num_classes:
                raise ValueError(
                    f"{self.name}: a {part} label is {largest}, but there are {self.num_classes} class names"
                )
        if self.train.inputs.shape[1:] != self.test.inputs.shape[1:]:
            raise ValueError(
                f"{self.name}: training items have shape {self.shape}, test items "
                f"{tuple(self.test.inputs.shape[1:])}; they must agree"
            )

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def is_features(self) -> bool:
        """Whether items are feature rows and not images."""
        return self.train.is_features

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one item: (C, H, W) or (f,)."""
        return tuple(self.train.inputs.shape[1:])


def _check_inputs(inputs: Tensor) -> None:
    images = inputs.dtype == torch.uint8 and inputs.ndim == 4
    features = inputs.dtype == torch.float32 and inputs.ndim == 2
    if not (images or features):
        raise ValueError(
            "inputs must be uint8 images (n, C, H, W) or float32 features (n, f), got "
            f"{inputs.dtype} of shape {tuple(inputs.shape)}"
        )
    if 0 in inputs.shape[1:]:
        raise ValueError(f"every item needs at least one value, got inputs of shape {tuple(inputs.shape)}")
    if features and (bad := int((~inputs.isfinite()).sum())):
        raise ValueError(f"features must be finite, but {bad} of {inputs.numel()} values are NaN or infinite")


def _check_targets(targets: Tensor, length: int) -> None:
    if targets.dtype != torch.int64 or targets.ndim != 1:
        raise ValueError(f"targets must be int64 of shape (n,), got {targets.dtype} of shape {tuple(targets.shape)}")
    if len(targets) != length:
        raise ValueError(f"expected one label for each of the {length} inputs, got {len(targets)} labels")
    if length and (smallest := int(targets.min())) < 0:
        raise ValueError(f"labels must be 0 or more, got {smallest}")
