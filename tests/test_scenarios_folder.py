"""Image folders: found, split, sized and decoded once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from acil.scenarios import folder as module
from acil.scenarios.folder import FALLBACK_SIZE, image_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def picture(path: Path, size: tuple[int, int] = (8, 6), colour: tuple[int, ...] = (10, 20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def fill(root: Path, classes: str = "ab", count: int = 5) -> None:
    for shade, name in enumerate(classes):
        for index in range(count):
            picture(root / name / f"{index}.png", colour=(shade, index, 0))


def test_train_and_val_folders_are_taken_as_they_are(root: Path) -> None:
    fill(root / "train", "ab", 5)
    fill(root / "val", "b", 2)
    data = image_folder(root)
    assert data.class_names == ("a", "b")
    assert data.augmentation == "crop-flip"
    assert data.shape == (3, 6, 8)
    assert data.train.targets.tolist() == [0] * 5 + [1] * 5
    assert data.test.targets.tolist() == [1, 1]
    assert data.train.inputs[7, :, 0, 0].tolist() == [1, 2, 0]


def test_a_test_folder_does_as_well_and_folders_are_searched_to_the_bottom(root: Path) -> None:
    fill(root / "train")
    picture(root / "test" / "a" / "deep" / "1.PNG")
    (root / "test" / "a" / "notes.txt").write_text("not an image")
    assert len(image_folder(root).test) == 1


def test_class_folders_are_split_by_the_seed(root: Path) -> None:
    fill(root, "abc", 10)
    first, again, other = (image_folder(root, seed=seed) for seed in (0, 0, 1))
    assert first.test.targets.bincount().tolist() == [2, 2, 2]
    assert torch.equal(first.test.inputs, again.test.inputs)
    assert not torch.equal(first.test.inputs, other.test.inputs)
    seen = torch.cat([first.train.inputs, first.test.inputs])[:, :, 0, 0].tolist()
    assert sorted(seen) == [[shade, index, 0] for shade in range(3) for index in range(10)]


def test_small_classes_keep_one_image_on_either_side(root: Path) -> None:
    fill(root, "ab", 2)
    data = image_folder(root)
    assert data.train.targets.tolist() == data.test.targets.tolist() == [0, 1]


def test_images_of_different_sizes_meet_at_the_fallback(root: Path) -> None:
    fill(root)
    picture(root / "a" / "large.png", (200, 100))
    assert image_folder(root).shape == (3, FALLBACK_SIZE, FALLBACK_SIZE)
    assert image_folder(root, image_size=5).shape == (3, 5, 5)


def test_the_middle_is_kept(root: Path) -> None:
    fill(root / "train")
    stripes = np.zeros((10, 30, 3), np.uint8)
    stripes[:, 10:20] = 255
    (root / "val" / "a").mkdir(parents=True)
    Image.fromarray(stripes).save(root / "val" / "a" / "stripes.png")
    assert (image_folder(root, image_size=10).test.inputs == 255).all()


def test_orientation_and_transparency_are_honoured(root: Path) -> None:
    fill(root / "train")
    (root / "val" / "a").mkdir(parents=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (6, 8), (9, 9, 9)).save(root / "val" / "a" / "1.png", exif=turned)
    palette = Image.new("P", (8, 6))
    palette.save(root / "val" / "a" / "2.png", transparency=bytes([0] * 256))
    assert image_folder(root).shape == (3, 6, 8)


def test_images_are_decoded_once_until_they_change(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(root)
    first = image_folder(root)
    decode = module._decode_all
    monkeypatch.setattr(module, "_decode_all", lambda *_: pytest.fail("decoded again"))
    assert torch.equal(image_folder(root).train.inputs, first.train.inputs)
    monkeypatch.setattr(module, "_decode_all", decode)
    for path in root.rglob("*.png"):
        picture(path, colour=(200, 100, 50))
    assert (image_folder(root).train.inputs[:, 0] == 200).all()


def test_what_cannot_be_a_data_set_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="photos is not a folder"):
        image_folder(root)
    root.mkdir()
    with pytest.raises(ValueError, match="no class folders"):
        image_folder(root)
    fill(root)
    with pytest.raises(ValueError, match="image_size must be at least 1 pixel, got 0"):
        image_folder(root, image_size=0)
    (root / "c").mkdir()
    with pytest.raises(ValueError, match="photos/c holds no images"):
        image_folder(root)
    picture(root / "c" / "only.png")
    with pytest.raises(ValueError, match="class 'c' has 1 item"):
        image_folder(root)


def test_parts_that_do_not_fit_are_refused(root: Path) -> None:
    fill(root / "train")
    with pytest.raises(ValueError, match="neither val/ nor test/"):
        image_folder(root)
    fill(root / "val", "axy")
    with pytest.raises(ValueError, match="lacks: x, y"):
        image_folder(root)


@pytest.mark.parametrize("content", [b"", b"no image at all", "half"])
@pytest.mark.parametrize("image_size", [None, 4])
def test_a_broken_image_is_named(root: Path, content: bytes | str, image_size: int | None) -> None:
    fill(root)
    path = root / "b" / "3.png"
    noise = np.random.default_rng(0).integers(256, size=(6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:90] if content == "half" else content)
    with pytest.raises(ValueError, match=r"b/3\.png cannot be read as an image"):
        image_folder(root, image_size=image_size)
