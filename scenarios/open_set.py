"""Foreign images: of no class that a model knows, to train beside the known ones or to be told from them."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from acil.scenarios.cache import cached_array
from acil.scenarios.image_files import ImageFiles, file_stamp, find_images

GENERATED = 10_000  # images of a source without end, where the caller names no number
PART = 256  # images that are drawn or scaled at once, since both take many times their memory
_FORMAT = 1  # raise it when fitting changes, so that old cache files are left alone
SYMBOL_FACES = ("DejaVuSans", "DejaVuSans-Bold")  # the others have few symbols
SYMBOL_CATEGORIES = ("Sm", "Sc")  # mathematics, arrows among it, and currencies


def foreign_images(
    source: str,
    count: int | None,
    shape: tuple[int, ...],
    *,
    seed: int = 0,
    without: Collection[str] = (),
) -> Tensor:
    """Images of a source, uint8 (n, C, H, W).

    ===============  ===================================================================================================
    ``gaussian``     Normal noise around grey, clipped.
    ``rademacher``   Every value black or white.
    ``blobs``        Smooth black and white patches: blurred noise, cut off at its mean.
    ``symbols``      Symbols that are no letter, drawn and distorted like the glyphs.
    ``folder:PATH``  Image files of a folder and the folders inside it, scaled and cropped to the shape.
    a data set       The training images of any other data set that ``load_data`` knows, scaled to the shape.
    ===============  ===================================================================================================

    Args:
        source: one of the above.
        count: the most images to take, chosen by the seed; None for all there are, and 10,000 of a source without end.
        shape: (C, H, W) of an image; C is 1 or 3.
        seed: draws noise, or chooses images.
        without: names of folders inside ``folder:PATH`` that are left out, such as those of known classes.

    Raises:
        ValueError: there is no such source, or it holds no images.

    References:
        Hendrycks and Gimpel, "A baseline for detecting misclassified and out-of-distribution examples in neural
        networks", ICLR 2017, for the three kinds of noise.
    """
    if count is not None and count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    rng = np.random.default_rng(seed)
    if source in _NOISE:
        return _noise(source, rng, (count or GENERATED, *shape))
    if source == "symbols":
        return _fitted(_symbols(rng, count or GENERATED), shape)
    if source.startswith("folder:"):
        return _of_folder(source.removeprefix("folder:"), count, shape, rng, without)
    return _of_data_set(source, count, shape, rng)


def _gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    noise = rng.standard_normal(shape, dtype=np.float32)
    pixels: NDArray[np.uint8] = np.rint((0.5 + 0.25 * noise).clip(0, 1) * 255).astype(np.uint8)
    return pixels


def _rademacher(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    noise: NDArray[np.uint8] = 255 * rng.integers(0, 2, size=shape, dtype=np.uint8)
    return noise


def _blobs(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    noise = torch.from_numpy(rng.random(shape, dtype=np.float32))
    taps = torch.arange(-4, 5, dtype=torch.float32)
    weights = torch.exp(-(taps**2) / (2 * 1.5**2))
    weights = (weights / weights.sum()).repeat(shape[1], 1)[:, None]
    padded = F.pad(noise, [4, 4, 4, 4], mode="reflect" if min(shape[2:]) > 4 else "replicate")
    blurred = F.conv2d(padded, weights[..., None], groups=shape[1])
    blurred = F.conv2d(blurred, weights[:, :, None], groups=shape[1])
    mean = blurred.mean(dim=(1, 2, 3), keepdim=True)
    blobs: NDArray[np.uint8] = (255 * (blurred > mean)).to(torch.uint8).numpy()
    return blobs


_NOISE = {"gaussian": _gaussian, "rademacher": _rademacher, "blobs": _blobs}


def _noise(source: str, rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    images = np.empty(shape, dtype=np.uint8)
    for start in range(0, len(images), PART):
        part = images[start : start + PART]
        part[:] = _NOISE[source](rng, part.shape)
    return torch.from_numpy(images)


def _symbols(rng: np.random.Generator, count: int) -> Tensor:
    """(n, 1, 32, 32) distorted symbols."""
    from acil.scenarios import fonts
    from acil.scenarios.glyphs import Distortion, distort

    faces = fonts.renderings(symbols(), SYMBOL_FACES)
    drawn = np.sort(rng.integers(faces.shape[1], size=count))
    labels, counts = np.unique(drawn, return_counts=True)
    images = [
        distort(faces[:, label], int(number), rng, Distortion()) for label, number in zip(labels, counts, strict=True)
    ]
    return torch.from_numpy(np.concatenate(images)[rng.permutation(count)])


def symbols() -> str:
    """The mathematical and currency symbols of the embedded fonts, in Unicode order."""
    from acil.scenarios import fonts

    characters = fonts.common_characters(SYMBOL_FACES)
    return "".join(c for c in characters if unicodedata.category(c) in SYMBOL_CATEGORIES)


def _of_folder(
    path: str, count: int | None, shape: tuple[int, ...], rng: np.random.Generator, without: Collection[str]
) -> Tensor:
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; give the path of a folder of images")
    files = [file for file in find_images(root) if not set(_folders(file, root)) & set(without)]
    places = _chosen(f"folder:{path}", len(files), count, rng)
    chosen = [files[place] for place in places]
    key = {"format": _FORMAT, "shape": list(shape), "files": [file_stamp(file) for file in chosen]}
    channels, height, width = shape
    images = ImageFiles(chosen, torch.zeros(len(chosen), dtype=torch.int64), (channels, height, width))
    return torch.from_numpy(cached_array("foreign", key, lambda: images.pixels().numpy()))


def _folders(file: Path, root: Path) -> tuple[str, ...]:
    """Names of the folders between a root and a file, without the training or test part of a data set."""
    folders = file.relative_to(root).parts[:-1]
    return folders[1:] if folders[:1] in {("train",), ("val",), ("test",)} else folders


def _of_data_set(source: str, count: int | None, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    from acil.scenarios.registry import load_data

    train = load_data(source).train
    if train.is_features:
        raise ValueError(f"{source} holds feature rows, not images; choose a source of images")
    return _fitted(train.inputs[_chosen(source, len(train), count, rng)], shape)


def _chosen(source: str, available: int, count: int | None, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of as many images as asked for and there are, ascending."""
    if not available:
        raise ValueError(f"{source} holds no images to take; choose another source")
    wanted = available if count is None else min(count, available)
    return np.sort(rng.choice(available, size=wanted, replace=False))


def _fitted(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """uint8 images scaled to (C, H, W); grey ones become colour ones and the other way round."""
    return torch.cat([_fitted_part(part, shape) for part in torch.split(images, PART)])


def _fitted_part(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    channels, height, width = shape
    if images.shape[2:] != (height, width):
        scaled = F.interpolate(images.float(), size=(height, width), mode="bilinear", antialias=True)
        images = scaled.round().clamp(0, 255).to(torch.uint8)
    if images.shape[1] == channels:
        return images
    return images.expand(-1, channels, -1, -1) if channels > 1 else images.float().mean(1, True).to(torch.uint8)
