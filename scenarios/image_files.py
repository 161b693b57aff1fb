"""Image files, decoded when they are asked for and kept nowhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

_ORIENTATION = 0x0112  # the EXIF tag that says how the camera was held
_MODES = {1: "L", 3: "RGB"}


class ImageFiles(Dataset[tuple[Tensor, int]]):
    """Labelled image files, read as often as they are asked for.

    Item ``i`` is the pair (image, label): float32 (C, H, W) in [0, 1], upright, scaled on its shorter side and cropped
    to the centre.

    Args:
        paths: the files.
        targets: int64 labels (n,).
        image_shape: (C, H, W) of an item; C is 1 for grey and 3 for colour.

    Raises:
        ValueError: another number of channels, or of labels. Reading an item: its file is no readable image; names it.
    """

    def __init__(self, paths: Sequence[Path], targets: Tensor, image_shape: tuple[int, int, int]) -> None:
        if image_shape[0] not in _MODES:
            raise ValueError(f"image files have 1 channel (grey) or 3 (colour), got image_shape={image_shape}")
        if len(paths) != len(targets):
            raise ValueError(f"expected one label for each of the {len(paths)} files, got {len(targets)} labels")
        self.paths = tuple(paths)
        self.targets = targets
        self.image_shape = image_shape

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._decode(self.paths[index]).to(torch.float32) / 255, int(self.targets[index])

    def pixels(self) -> Tensor:
        """All images at once: uint8 (n, C, H, W)."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and resizes outside Python's lock
            return torch.stack(list(pool.map(self._decode, self.paths)))

    def _decode(self, file: Path) -> Tensor:
        channels, height, width = self.image_shape
        return torch.from_numpy(decode(file, width, height, channels))

    def subset(self, indices: Tensor) -> ImageFiles:
        """The files at these places, in this order."""
        paths = [self.paths[place] for place in indices.tolist()]
        return ImageFiles(paths, self.targets[indices], self.image_shape)


def find_images(folder: Path) -> list[Path]:
    """The image files in a folder and the folders inside it, sorted; hidden ones are left out."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES and not _is_hidden(file.relative_to(folder)) and file.is_file()
    )


def _is_hidden(file: Path) -> bool:
    return any(part.startswith(".") for part in file.parts)


def file_stamp(file: Path) -> list[Any]:
    """What changes when the file does."""
    status = file.stat()
    return [str(file), status.st_mtime_ns, status.st_size]


def upright_size(file: Path) -> tuple[int, int]:
    """Width and height, upright, from the file's head.

    Raises:
        ValueError: the file is no readable image; names it.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            sideways = image.getexif().get(_ORIENTATION, 1) >= 5
            width, height = image.size
            return (height, width) if sideways else (width, height)
    except Exception as error:
        raise _unreadable(file, error) from error


def decode(file: Path, width: int, height: int, channels: int = 3) -> NDArray[np.uint8]:
    """The upright image, grey (1 channel) or in colour (3): uint8 (channels, height, width).

    Raises:
        ValueError: the file is no readable image; names it.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened)
            if "transparency" in image.info:
                image = image.convert("RGBA")
            fitted = _fit(_eight_bits(image).convert("RGB"), width, height)
            pixels = np.array(fitted.convert(_MODES[channels]))
    except Exception as error:  # decoders of broken files raise whatever they stumble over
        raise _unreadable(file, error) from error
    return np.ascontiguousarray(pixels.reshape(height, width, channels).transpose(2, 0, 1))


def _eight_bits(image: Image) -> Image:
    """Grey images of 16 bits in 8, which Pillow would clip instead of scale."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers without a range; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65_535) >> 8).astype(np.uint8))


def _fit(image: Image, width: int, height: int) -> Image:
    """Scale so that the image just covers the wanted size, and cut off what sticks out on either side."""
    from PIL import Image, ImageOps

    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)


def _unreadable(file: Path, error: Exception) -> ValueError:
    return ValueError(f"{file} cannot be read as an image ({error}); repair or remove it")
