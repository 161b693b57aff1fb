"""Features of images, once, in batches of one constant shape.

The kernels behind a convolution or a matrix product are chosen by shape, and another kernel rounds differently. In
batches of one constant shape (the last one is padded) an image's feature is bitwise independent of its neighbours and
of its place in the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from acil.checks import check_finite

Progress = Callable[[int], None]


def scaled(images: Tensor) -> Tensor:
    """Images in [0, 1]: uint8 ones divided by 255, others as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def constant_batches(rows: Tensor, size: int) -> Iterator[tuple[Tensor, int]]:
    """Split (n, ...) rows into batches of exactly ``size``; yields each with how many of its rows are real."""
    for batch in torch.split(rows, size):
        real = len(batch)
        if real < size:
            padding = batch.new_zeros(size - real, *batch.shape[1:])
            batch = torch.cat([batch, padding])
        yield batch, real


def backbone_features(backbone: nn.Module, images: Tensor) -> Tensor:
    """What the backbone makes of (n, C, H, W) images: (n, f).

    Raises:
        ValueError: it cannot take such images, or gives something else.
    """
    try:
        features = backbone(scaled(images))
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:  # what torch says of shapes and dtypes that do not fit
        raise ValueError(
            f"the backbone fails on images of shape {tuple(images.shape)} and dtype {images.dtype}: {error}"
        ) from error
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(images):
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(
            f"the backbone must give features of shape (n, f) for n = {len(images)} images, got {shape}; "
            "end it with pooling and nn.Flatten"
        )
    return features


@torch.no_grad()
def extract_features(
    backbone: nn.Module,
    images: Tensor,
    batch_size: int,
    device: torch.device,
    progress: Progress | None = None,
) -> Tensor:
    """Pass each image through the frozen backbone once.

    Args:
        backbone: maps (n, C, H, W) to (n, f); evaluated in eval mode.
        images: (n, C, H, W), floating point in [0, 1] or uint8, on any device.
        batch_size: the constant batch size.
        device: where the backbone is; the features stay there.
        progress: called with the number of images after each batch.

    Returns:
        (n, f) float32.

    Raises:
        ValueError: the backbone gives something else than finite (n, f) features.
    """
    training = backbone.training
    backbone.eval()
    try:
        features = [
            backbone_features(backbone, batch.to(device))[:real].float()
            for batch, real in _reported(constant_batches(images, batch_size), progress)
        ]
    finally:
        backbone.train(training)
    extracted = torch.cat(features)
    check_finite(extracted, "the backbone's features")
    return extracted


def extract_dataset(
    backbone: nn.Module,
    dataset: Dataset[tuple[Tensor, int]],
    batch_size: int,
    device: torch.device,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Features and labels of a data set of (image, label, ...) items: (n, f) float32 and (n,) int64 on the CPU."""
    features, labels = [], []
    unused = torch.Generator()  # loaders draw a seed, even for no shuffling; the global generator is not theirs
    for item in DataLoader(dataset, batch_size=batch_size, generator=unused):
        features.append(extract_features(backbone, item[0], batch_size, device, progress).cpu())
        labels.append(item[1].long())
    if not features:
        raise ValueError("the data set is empty; there is nothing to extract")
    return torch.cat(features), torch.cat(labels)


def _reported(batches: Iterator[tuple[Tensor, int]], progress: Progress | None) -> Iterator[tuple[Tensor, int]]:
    for batch, real in batches:
        yield batch, real
        if progress is not None:
            progress(real)
