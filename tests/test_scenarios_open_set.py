"""Foreign images: each source has its statistics, and none shows a known class."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import torch
from PIL import Image

from acil.scenarios import fonts, foreign_images
from acil.scenarios.open_set import SYMBOL_FACES, symbols


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACIL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("source", ["gaussian", "rademacher", "blobs", "symbols"])
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 20, 28)])
def test_generated_images_have_the_shape_and_follow_the_seed(source: str, shape: tuple[int, int, int]) -> None:
    images = foreign_images(source, 50, shape, seed=3)
    assert images.dtype == torch.uint8
    assert images.shape == (50, *shape)
    assert torch.equal(images, foreign_images(source, 50, shape, seed=3))
    assert not torch.equal(images, foreign_images(source, 50, shape, seed=4))
    assert len(images.flatten(1).unique(dim=0)) == 50


PEAK = """
import sys
from resource import RUSAGE_SELF, getrusage
from acil.scenarios import foreign_images

foreign_images(sys.argv[1], 10, (3, 64, 64))  # what is made once
before = getrusage(RUSAGE_SELF).ru_maxrss
images = foreign_images(sys.argv[1], 8_000, (3, 64, 64))
print(1024 * (getrusage(RUSAGE_SELF).ru_maxrss - before) / images.nbytes)
"""


@pytest.mark.parametrize("source", ["gaussian", "blobs", "symbols", "glyphs"])
def test_making_images_takes_little_more_memory_than_they_do(source: str) -> None:
    made = subprocess.run([sys.executable, "-c", PEAK, source], capture_output=True, text=True, check=True)
    assert float(made.stdout) < 3.5


def test_noise_has_its_distribution() -> None:
    gaussian = foreign_images("gaussian", 200, (3, 16, 16)).double() / 255
    assert float(gaussian.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(gaussian.std()) == pytest.approx(0.25, abs=0.02)
    rademacher = foreign_images("rademacher", 200, (3, 16, 16))
    assert set(rademacher.unique().tolist()) == {0, 255}
    assert float(rademacher.double().mean()) == pytest.approx(127.5, abs=2)


def test_blobs_are_smooth_patches_of_black_and_white() -> None:
    blobs = foreign_images("blobs", 100, (1, 32, 32)).double() / 255
    assert set(blobs.unique().tolist()) == {0.0, 1.0}
    neighbours = (blobs[..., 1:] == blobs[..., :-1]).double().mean()
    assert neighbours > 0.8  # half of the neighbours in plain noise
    assert 0.4 < float(blobs.mean()) < 0.6


def test_symbols_are_no_letters_and_every_one_has_ink() -> None:
    characters = symbols()
    assert len(characters) > 300
    assert not {unicodedata.category(c)[0] for c in characters} & {"L", "N"}
    assert not set(characters) & set(fonts.common_letters())
    assert (
        fonts.renderings(characters, SYMBOL_FACES).reshape(len(SYMBOL_FACES), len(characters), -1).max(axis=2) > 128
    ).all()


def save(folder: Path, name: str, colour: tuple[int, int, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 40), colour).save(folder / f"{name}.png")


def test_folders_are_read_whole_fitted_and_without_known_classes(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for place in range(4):
        save(photos / "cat", str(place), (255, 0, 0))
        save(photos / "chair" / "old", str(place), (0, 0, 40 * place))
    images = foreign_images(f"folder:{photos}", None, (3, 16, 16))
    assert images.shape == (8, 3, 16, 16)
    chairs = foreign_images(f"folder:{photos}", None, (3, 16, 16), without=["cat"])
    assert sorted(chairs[:, 2, 0, 0].tolist()) == [0, 40, 80, 120]
    assert torch.equal(chairs, foreign_images(f"folder:{photos}", None, (3, 16, 16), without=["cat"]))
    assert foreign_images(f"folder:{photos}", 3, (1, 8, 8)).shape == (3, 1, 8, 8)
    assert foreign_images(f"folder:{photos}", 100, (1, 8, 8)).shape == (8, 1, 8, 8)
    with pytest.raises(ValueError, match="no images"):
        foreign_images(f"folder:{photos}", None, (1, 8, 8), without=["cat", "chair"])


def test_a_class_called_train_is_not_the_training_part(tmp_path: Path) -> None:
    for part, name, red in (("train", "train", 1), ("train", "plane", 2), ("test", "plane", 3)):
        save(tmp_path / part / name, "image", (red, 0, 0))
    images = foreign_images(f"folder:{tmp_path}", None, (3, 16, 16), without=["train", "image.png"])
    assert sorted(images[:, 0, 0, 0].tolist()) == [2, 3]


def test_data_sets_are_scaled_and_coloured(tmp_path: Path) -> None:
    photos = tmp_path / "set"
    for place in range(10):
        save(photos / "a", str(place), (10 * place, 10 * place, 10 * place))
        save(photos / "b", str(place), (5, 5, 5))
    grey = foreign_images(f"folder:{photos}", None, (1, 40, 24))
    assert grey.shape == (20, 1, 40, 24)
    assert foreign_images("glyphs", 7, (3, 20, 20)).shape == (7, 3, 20, 20)


@pytest.mark.parametrize(
    ("source", "count", "match"),
    [
        ("gausian", 5, "no data set"),
        ("folder:/does/not/exist", 5, "not a folder"),
        ("gaussian", 0, "count must be"),
    ],
)
def test_what_there_is_not_is_refused(source: str, count: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        foreign_images(source, count, (1, 16, 16))
