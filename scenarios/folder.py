"""A folder of images, one folder for each class, decoded once and memory-mapped from then on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from acil.scenarios.cache import cached_array
from acil.scenarios.image_files import SUFFIXES, ImageFiles, decode, file_stamp, find_images, upright_size
from acil.scenarios.labelled import DataSource, LabelledTensors
from acil.scenarios.split import stratified_split

FALLBACK_SIZE = 64  # pixels on a side, where the images differ in size and the caller named none

_FORMAT = 2  # raise it when decoding changes, so that old cache files are left alone
_TEST_FOLDERS = ("val", "test")


@dataclass(frozen=True)
class _Files:
    """Image files with their labels."""

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]

    def at(self, places: NDArray[np.int64]) -> _Files:
        return _Files(tuple(self.paths[place] for place in places), self.labels[places])


def image_folder(path: str | Path, seed: int = 0, image_size: int | None = None) -> DataSource:
    """Read a folder of images as RGB.

    The folder holds either ``train/`` and ``val/`` (or ``test/``; ``val/`` is taken where both are there),
    each with one folder for each class, or the class folders themselves; then a fifth of each class, chosen
    by the seed, is for testing. Folders inside a class folder are searched too; other files are ignored.

    Args:
        path: the folder.
        seed: splits a folder that has no test part.
        image_size: pixels on a side; images are resized to it on their shorter side and cropped to a centred
            square. Default: the images' own size where all agree, else 64.

    Raises:
        ValueError: if there is no such folder, no class folder, a class without images, a test class without
            training images, an image that cannot be read, or a size below 1.
    """
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; give the path of a folder of images")
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel, got {image_size}")
    class_names, train, test = _train_and_test(root, seed)
    # One array for both, so that they agree on a size and either is a view of the file.
    files = train.paths + test.paths
    key = {"format": _FORMAT, "image size": image_size, "files": [file_stamp(file) for file in files]}
    images = torch.from_numpy(cached_array("folder", key, lambda: _decode_all(files, image_size)))
    return DataSource(
        f"folder:{path}",
        LabelledTensors(images[: len(train.paths)], torch.from_numpy(train.labels)),
        LabelledTensors(images[len(train.paths) :], torch.from_numpy(test.labels)),
        class_names=tuple(class_names),
        augmentation="crop-flip",
    )


def training_files(
    path: str | Path, image_shape: tuple[int, int, int], split_seed: int | None = None
) -> tuple[ImageFiles, tuple[str, ...]]:
    """The training images of a folder as :func:`image_folder` takes it, to be decoded when asked for.

    Args:
        path: the folder; of one that holds ``train/``, only that is taken.
        image_shape: (C, H, W) to which images are fitted; C is 1 for grey and 3 for colour.
        split_seed: the seed by which ``image_folder`` splits a folder that has no ``train/``, to leave its test images
            out; None to take all of them.

    Returns:
        The files, and the name of each label.

    Raises:
        ValueError: if there is no such folder, no class folder, or a class without images.
    """
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; give the path of a folder of images")
    has_train = (root / "train").is_dir()
    root = root / "train" if has_train else root
    class_names = _class_names(root)
    files = _list_files(root, class_names, class_names)
    if split_seed is not None and not has_train:
        files = files.at(stratified_split(files.labels, class_names, split_seed)[0])
    return ImageFiles(files.paths, torch.from_numpy(files.labels), image_shape), tuple(class_names)


def _train_and_test(root: Path, seed: int) -> tuple[list[str], _Files, _Files]:
    """The class names and the files of the two parts."""
    train_root = root / "train"
    if not train_root.is_dir():
        class_names = _class_names(root)
        files = _list_files(root, class_names, class_names)
        train, test = stratified_split(files.labels, class_names, seed)
        return class_names, files.at(train), files.at(test)
    test_root = next((root / name for name in _TEST_FOLDERS if (root / name).is_dir()), None)
    if test_root is None:
        raise ValueError(
            f"{root} has train/ but neither val/ nor test/; add one, or give {train_root} to have it split"
        )
    class_names, test_names = _class_names(train_root), _class_names(test_root)
    if unknown := sorted(set(test_names) - set(class_names)):
        raise ValueError(f"{test_root} has classes that {train_root} lacks: {', '.join(unknown)}")
    return (
        class_names,
        _list_files(train_root, class_names, class_names),
        _list_files(test_root, test_names, class_names),
    )


def _class_names(root: Path) -> list[str]:
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ValueError(f"{root} has no class folders; put the images of each class into a folder of its own")
    return names


def _list_files(root: Path, names: Sequence[str], class_names: Sequence[str]) -> _Files:
    """The image files of the folders ``names``, labelled by their place in ``class_names``."""
    paths: list[Path] = []
    labels: list[int] = []
    for name in names:
        found = find_images(root / name)
        if not found:
            raise ValueError(f"class folder {root / name} holds no images ({', '.join(sorted(SUFFIXES))})")
        paths += found
        labels += [class_names.index(name)] * len(found)
    return _Files(tuple(paths), np.array(labels, dtype=np.int64))


def _decode_all(files: Sequence[Path], image_size: int | None) -> NDArray[np.uint8]:
    """All images in the order of the files: uint8 (n, 3, H, W)."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and resizes outside Python's lock
        size = None
        if image_size is None:
            sizes = set(pool.map(upright_size, files))
            size = sizes.pop() if len(sizes) == 1 else None
        square = image_size or FALLBACK_SIZE
        width, height = size or (square, square)
        images = np.empty((len(files), 3, height, width), np.uint8)
        for place, image in enumerate(pool.map(lambda file: decode(file, width, height), files)):
            images[place] = image
    return images
