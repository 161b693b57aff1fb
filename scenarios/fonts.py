"""The letters of the fonts that matplotlib ships: which there are, which look alike, and their renderings.

A rendering shows a letter at one common size, so that what the distortions of
:mod:`acil.scenarios.glyphs` undo on average (place and size) cannot tell two letters apart here either.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

TRAIN_FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralBolIta",
    "STIXGeneralItalic",
)
TEST_FACES = ("DejaVuSans-BoldOblique", "DejaVuSansMono", "DejaVuSerif-Italic", "STIXGeneralBol")
FACES = TRAIN_FACES + TEST_FACES

CANVAS = 48  # pixels on a side of a rendering
_INK = 36  # pixels on the longer side of the letter inside it
_POINT_SIZE = 72  # size at which FreeType draws before the letter is scaled to _INK
_CATEGORIES = frozenset({"Lu", "Ll", "Lo", "Nd"})  # upper, lower and other letters, decimal digits
_ALIKE = 0.987  # two letters are twins when, in any one face, their pictures have at least this cosine
_STRETCH = 1.5  # proportions further apart than this are told apart by the eye
_ORDER_SEED = 20  # fixes the order of the class list once and for all; not the user's seed


@lru_cache(maxsize=2)
def common_characters(faces: tuple[str, ...] = FACES) -> str:
    """The characters that every one of these faces contains, in Unicode order."""
    from matplotlib.ft2font import FT2Font

    charmaps = (set(FT2Font(_path(face)).get_charmap()) for face in faces)
    return "".join(map(chr, sorted(set.intersection(*charmaps))))


@lru_cache(maxsize=1)
def common_letters() -> str:
    """The letters and digits that every face contains, in Unicode order."""
    return "".join(letter for letter in common_characters() if unicodedata.category(letter) in _CATEGORIES)


@lru_cache(maxsize=2)
def renderings(letters: str, faces: tuple[str, ...] = FACES) -> NDArray[np.uint8]:
    """Render each letter in each face, in the order of the faces: training faces first, unless told otherwise.

    Returns:
        uint8 array (faces, letters, CANVAS, CANVAS), read-only; 255 is ink.
    """
    from PIL import ImageFont

    images = np.zeros((len(faces), len(letters), CANVAS, CANVAS), np.uint8)
    for row, face in zip(images, faces, strict=True):
        # The basic layout is built into Pillow; the other one depends on a library of the machine.
        font = ImageFont.truetype(_path(face), _POINT_SIZE, layout_engine=ImageFont.Layout.BASIC)
        for image, letter in zip(row, letters, strict=True):
            _draw(font, letter, image)
    images.setflags(write=False)
    return images


@lru_cache(maxsize=1)
def distinct_letters() -> str:
    """The letters that no other looks like, in a fixed order in which alphabets are mixed.

    Of twins (Latin, Greek and Cyrillic A; 3 and the Cyrillic Ze; o and O once size is set aside) the one
    that comes first in Unicode stays.
    """
    letters = common_letters()
    likeness = _likeness(renderings(letters))
    kept: list[int] = []
    for index in range(len(letters)):
        if not kept or likeness[index, kept].max() < _ALIKE:
            kept.append(index)
    order = np.random.default_rng(_ORDER_SEED).permutation(len(kept))
    return "".join(letters[kept[position]] for position in order)


def _likeness(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How alike two letters are, 0 to 1: the cosine of their pictures in the face where it is greatest.

    Each picture is stretched to a square first, since the distortions stretch too. Letters that differ in
    proportions by more than the distortions can make up for count as unlike: I is not a black square.
    """
    likeness = np.zeros((images.shape[1],) * 2, np.float32)
    for face in images:
        squares, proportions = _stretched(face)
        ratios = proportions[:, None] / proportions
        reachable = np.maximum(ratios, 1 / ratios) < _STRETCH
        np.maximum(likeness, np.where(reachable, squares @ squares.T, 0), out=likeness)
    return likeness


def _stretched(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Each letter's ink as a square of 16x16 averages, a unit row (256,), and its width over its height."""
    from PIL import Image

    squares = np.empty((len(images), 16, 16), np.float32)
    proportions = np.empty(len(images), np.float32)
    for index, image in enumerate(images):
        picture = Image.fromarray(image)
        left, top, right, bottom = box = picture.getbbox() or (0, 0, CANVAS, CANVAS)
        squares[index] = np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR, box=box))
        proportions[index] = (right - left) / (bottom - top)
    rows = squares.reshape(len(images), -1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), proportions


def _draw(font: FreeTypeFont, letter: str, image: NDArray[np.uint8]) -> None:
    """Draw the letter's ink, scaled to _INK pixels, in the middle of the black image."""
    from PIL import Image

    mask = font.getmask(letter, mode="L")
    ink = Image.frombytes("L", mask.size, bytes(mask))
    ink = ink.crop(ink.getbbox())
    scale = _INK / max(ink.size)
    width, height = (max(1, round(side * scale)) for side in ink.size)
    top, left = (CANVAS - height) // 2, (CANVAS - width) // 2
    resized = ink.resize((width, height), Image.Resampling.BILINEAR)
    image[top : top + height, left : left + width] = np.asarray(resized)


def _path(face: str) -> str:
    import matplotlib

    return f"{matplotlib.get_data_path()}/fonts/ttf/{face}.ttf"
