"""Image files that are decoded when asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from acil.scenarios.folder import image_folder, training_files
from acil.scenarios.image_files import ImageFiles, decode, find_images


def write(file: Path, pixels: np.ndarray, **options: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)
    return file


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def only_item(file: Path, image_shape: tuple[int, int, int]) -> torch.Tensor:
    image, _ = ImageFiles([file], torch.zeros(1, dtype=torch.int64), image_shape)[0]
    return (image * 255).round().to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_pixels_come_back_as_they_were_in_grey_and_in_colour(channels: int, tmp_path: Path) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = only_item(write(tmp_path / "grey.png", pixels), (channels, 16, 16))
    assert image.shape == (channels, 16, 16)
    assert all(np.array_equal(plane, pixels) for plane in image.numpy())


def test_colour_pixels_come_back_as_they_were(tmp_path: Path) -> None:
    pixels = noise(6, 9, 3)
    assert np.array_equal(only_item(write(tmp_path / "x.png", pixels), (3, 6, 9)).permute(1, 2, 0).numpy(), pixels)


def test_colour_turns_grey_by_its_luma(tmp_path: Path) -> None:
    pixels = noise(6, 9, 3)
    luma = (pixels @ np.array([0.299, 0.587, 0.114])).round()
    grey = only_item(write(tmp_path / "x.png", pixels), (1, 6, 9))[0].numpy()
    assert np.abs(grey - luma).max() <= 1


def test_images_are_turned_upright(tmp_path: Path) -> None:
    pixels = noise(6, 9, 3)
    orientation = Image.Exif()
    orientation[0x0112] = 6  # the camera was held a quarter turn anticlockwise
    file = write(tmp_path / "sideways.png", pixels, exif=orientation)
    upright = only_item(file, (3, 9, 6)).permute(1, 2, 0).numpy()
    assert np.array_equal(upright, np.rot90(pixels, -1))


@pytest.mark.parametrize("name", ["text.jpg", "cut.png"])
def test_an_unreadable_file_is_named(name: str, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.png", noise(32, 32, 3)).read_bytes()
    (tmp_path / name).write_bytes(b"no image" if name == "text.jpg" else whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=name):
        only_item(tmp_path / name, (3, 8, 8))


def test_shapes_that_no_file_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image_shape"):
        ImageFiles([], torch.zeros(0, dtype=torch.int64), (4, 8, 8))
    with pytest.raises(ValueError, match="one label for each"):
        ImageFiles([tmp_path], torch.zeros(0, dtype=torch.int64), (3, 8, 8))


def test_images_are_found_below_a_folder_and_other_files_are_not(tmp_path: Path) -> None:
    expected = [write(tmp_path / name, noise(2, 2, 3)) for name in ("a/x.png", "b/c/y.JPG", "z.webp")]
    write(tmp_path / ".hidden.png", noise(2, 2, 3))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    assert find_images(tmp_path) == sorted(expected)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for place in range(20):
        write(tmp_path / "photos" / ("ant", "bee")[place % 2] / f"{place}.png", noise(8, 8, 3, seed=place))
    return tmp_path / "photos"


@pytest.mark.parametrize("seed", [0, 3])
def test_a_split_folder_trains_on_what_a_run_trains_on(
    seed: int, photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ACIL_CACHE", str(tmp_path / "cache"))
    source = image_folder(photos, seed=seed)
    files, names = training_files(photos, (3, 8, 8), split_seed=seed)
    assert names == source.class_names
    assert torch.equal(files.targets, source.train.targets)
    assert all(torch.equal(files[place][0], source.train[place][0]) for place in range(len(files)))


def test_a_whole_folder_is_all_of_it_or_its_train_part(photos: Path) -> None:
    files, names = training_files(photos, (3, 8, 8))
    assert (len(files), names) == (20, ("ant", "bee"))
    part = photos.with_name("parted")
    part.mkdir()
    photos.rename(part / "train")
    write(part / "test" / "ant" / "x.png", noise(8, 8, 3))
    for seed in (None, 0):
        again, _ = training_files(part, (3, 8, 8), split_seed=seed)
        assert [file.name for file in again.paths] == [file.name for file in files.paths]


def test_a_subset_has_its_own_order(photos: Path) -> None:
    files, _ = training_files(photos, (3, 8, 8))
    some = files.subset(torch.tensor([3, 1]))
    assert some.paths == (files.paths[3], files.paths[1])
    assert some.targets.tolist() == files.targets[[3, 1]].tolist()


@pytest.mark.parametrize("name", ["ramp.png", "ramp.tif"])
def test_sixteen_bits_are_scaled_and_not_clipped(name: str, tmp_path: Path) -> None:
    ramp = np.linspace(0, 65_535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / name)
    assert np.array_equal(decode(tmp_path / name, 16, 16, 1)[0], ramp >> 8)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "ramp.tif")
    with pytest.raises(ValueError, match=r"ramp.tif.*floating-point"):
        decode(tmp_path / "ramp.tif", 8, 8)


def test_hidden_folders_hold_no_images(tmp_path: Path) -> None:
    for place in ("a.png", ".hidden/b.png", "c/.checkpoints/d.png", "c/e.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / place)
    assert [file.name for file in find_images(tmp_path)] == ["a.png", "e.png"]
