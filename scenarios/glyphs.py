"""The embedded data set: letters from the fonts that matplotlib ships, distorted, in 32x32 grey pixels.

Training and test images come from different faces, so that the test measures generalisation to unseen type.
It needs no network, takes seconds to make, and is hard enough for methods to differ on it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import grid_sample

from acil.scenarios import fonts
from acil.scenarios.cache import cached_array
from acil.scenarios.labelled import DataSource, LabelledTensors

MAX_CLASSES = 400
SIDE = 32  # pixels on a side of an image

_FORMAT = 1  # raise it when images change for the same parameters, so that old cache files are left alone
_SPLITS = ("train", "test")


@dataclass(frozen=True)
class Distortion:
    """How far images stray from the clean letter: each value is drawn uniformly for each image.

    The defaults were tuned so that a small convolutional network, trained on half of 100 classes and frozen,
    ends with an average incremental accuracy between 85 and 92 %.

    Attributes:
        rotation: largest angle to either side, in degrees.
        shear: largest horizontal shear to either side.
        scale: range of width and of height, drawn apart; 1 gives a letter of three quarters of the image.
        shift: largest move along each axis, in pixels.
        background: range of the background's grey level, counted from black or, in half of the images, from
            white.
        contrast: range of the difference between letter and background.
        noise: range of the standard deviation of the noise.
    """

    rotation: float = 16.0
    shear: float = 0.28
    scale: tuple[float, float] = (0.72, 1.1)
    shift: float = 3.0
    background: tuple[float, float] = (0.0, 0.4)
    contrast: tuple[float, float] = (0.27, 0.6)
    noise: tuple[float, float] = (0.06, 0.21)


def glyphs(classes: int = 100, train_per_class: int = 300, test_per_class: int = 60, seed: int = 0) -> DataSource:
    """The embedded data set, read from the cache or made in a few seconds.

    The letters are the same for every seed, and those of fewer classes are the first of more. An image
    depends on the seed, its class and its place alone; not on the number of classes or threads.

    Args:
        classes: number of letters, 2 to 400.
        train_per_class: training images of each, from twelve faces.
        test_per_class: test images of each, from four other faces.
        seed: draws the faces, distortions and noise.

    Raises:
        ValueError: if a number is out of range.
    """
    for name, count in (("train_per_class", train_per_class), ("test_per_class", test_per_class)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    if not 2 <= classes <= MAX_CLASSES:
        raise ValueError(f"glyphs has 2 to {MAX_CLASSES} classes to choose from, got classes={classes}")
    if seed < 0:
        raise ValueError(f"the seed must be 0 or more, got {seed}")
    letters = _alphabet()[:classes]
    train = _labelled(letters, "train", train_per_class, seed)
    test = _labelled(letters, "test", test_per_class, seed)
    return DataSource("glyphs", train, test, class_names=tuple(letters), augmentation="affine")


def distort(faces: NDArray[np.uint8], count: int, rng: np.random.Generator, how: Distortion) -> NDArray[np.uint8]:
    """Draw ``count`` distorted images of one letter.

    Args:
        faces: its renderings, uint8 (faces, CANVAS, CANVAS), 255 for ink.
        count: number of images.
        rng: draws the face and the distortion of each image.
        how: the ranges to draw from.

    Returns:
        uint8 images (count, 1, 32, 32).
    """
    ink = faces[rng.integers(len(faces), size=count)].astype(np.float32)[:, None] / 255
    places = torch.from_numpy(_sampling_grid(count, rng, how))
    shape = grid_sample(torch.from_numpy(ink), places, align_corners=False).numpy()[:, 0]  # (count, 32, 32)
    image = _draw(rng, count, how.background) + _draw(rng, count, how.contrast) * shape
    # Half of the images are negatives: dark on light, their grey levels counted from white.
    negative = rng.random((count, 1, 1)) < 0.5
    image = np.where(negative, 1 - image, image)
    image += _draw(rng, count, how.noise) * rng.standard_normal((count, SIDE, SIDE), dtype=np.float32)
    pixels: NDArray[np.uint8] = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    return pixels[:, None]


def _sampling_grid(count: int, rng: np.random.Generator, how: Distortion) -> NDArray[np.float32]:
    """Where each pixel of each image looks in the rendering: (count, 32, 32, 2), as (x, y) in [-1, 1].

    NumPy computes it element by element on one thread: many small parallel steps would wait for each other
    on a busy machine, and a matrix product may round differently with the number of threads.
    """
    angle = _draw(rng, count, (-how.rotation, how.rotation)) * np.float32(np.pi / 180)
    shear = _draw(rng, count, (-how.shear, how.shear))
    width, height = _draw(rng, count, how.scale), _draw(rng, count, how.scale)
    reach = 2 * how.shift / SIDE
    right, down = _draw(rng, count, (-reach, reach)), _draw(rng, count, (-reach, reach))
    centres = (np.arange(SIDE, dtype=np.float32) * 2 + 1) / SIDE - 1
    x, y = centres[None, None, :] - right, centres[None, :, None] - down
    turned_x, turned_y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return np.stack([(turned_x + shear * turned_y) / width, turned_y / height], axis=-1)


def _draw(rng: np.random.Generator, count: int, limits: tuple[float, float]) -> NDArray[np.float32]:
    """One uniform value for each image: float32 (count, 1, 1)."""
    return rng.uniform(*limits, size=(count, 1, 1)).astype(np.float32)


def _labelled(letters: str, split: str, per_class: int, seed: int) -> LabelledTensors:
    key = {
        "format": _FORMAT,
        "pillow": version("pillow"),  # it brings the FreeType that draws the letters
        "distortion": asdict(Distortion()),
        "train faces": fonts.TRAIN_FACES,
        "test faces": fonts.TEST_FACES,
        "letters": letters,
        "split": split,
        "per class": per_class,
        "seed": seed,
    }
    images = cached_array(f"glyphs-{split}", key, lambda: _images(letters, split, per_class, seed))
    targets = torch.arange(len(letters)).repeat_interleave(per_class)
    return LabelledTensors(torch.from_numpy(images), targets)


def _images(letters: str, split: str, per_class: int, seed: int) -> NDArray[np.uint8]:
    """The images of one split, class after class: uint8 (letters * per_class, 1, 32, 32)."""
    faces = fonts.renderings(letters)
    held_out = len(fonts.TEST_FACES)
    faces = faces[:-held_out] if split == "train" else faces[-held_out:]
    images = np.empty((len(letters), per_class, 1, SIDE, SIDE), np.uint8)
    for label in range(len(letters)):
        rng = np.random.default_rng([seed, _SPLITS.index(split), label])
        images[label] = distort(faces[:, label], per_class, rng, Distortion())
    return images.reshape(-1, 1, SIDE, SIDE)


@lru_cache(maxsize=1)
def _alphabet() -> str:
    """The letters to choose from. Comparing them all takes two seconds, so that the answer is cached."""
    key = {"format": _FORMAT, "pillow": version("pillow"), "matplotlib": version("matplotlib")}
    codes = cached_array("glyphs-letters", key, lambda: np.array([ord(c) for c in fonts.distinct_letters()]))
    return "".join(map(chr, codes.tolist()))[:MAX_CLASSES]
