"""torchvision's data sets, from files of our own making: no test downloads."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets

from acil.scenarios.torchvision_sets import TORCHVISION_SETS, torchvision_set


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACIL_CACHE", str(tmp_path))
    return tmp_path / "torchvision"


def write_idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">I{values.ndim}I", 0x0800 + values.ndim, *values.shape)
    path.write_bytes(head + values.astype(np.uint8).tobytes())


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_files_in_the_cache_folder_are_read_without_a_network(root: Path, name: str, folder: str) -> None:
    for part, count in (("train", 12), ("t10k", 11)):
        images = np.arange(count * 784).reshape(count, 28, 28) % 256
        write_idx(root / folder / "raw" / f"{part}-images-idx3-ubyte", images)
        write_idx(root / folder / "raw" / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    data = torchvision_set(name)
    assert data.shape == (1, 28, 28)
    assert (len(data.train), len(data.test), data.num_classes) == (12, 11, 10)
    assert data.train.inputs[0, 0, 1, 2] == 30
    assert data.augmentation == ("affine" if name == "mnist" else "crop-flip")


class Fake:
    """Stands in for a data set of torchvision with the layouts of its own."""

    classes = ("zero", "one")

    def __init__(self, root: str, download: bool, train: bool = True, split: str = "train") -> None:
        assert download
        print("Files already downloaded and verified")
        self.targets, self.data = [0, 1], np.zeros((2, 32, 32, 3), np.uint8)
        self.data[..., 2] = 7


class FakeSVHN(Fake):
    classes: Any = None

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.data, self.labels = self.data.transpose(0, 3, 1, 2), np.array([0, 9])
        del self.targets


@pytest.mark.parametrize(
    ("name", "dataset", "fake", "classes"), [("cifar10", "CIFAR10", Fake, 2), ("svhn", "SVHN", FakeSVHN, 10)]
)
def test_every_layout_becomes_channels_first_and_nothing_is_printed(
    name: str, dataset: str, fake: type, classes: int, monkeypatch: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torchvision.datasets, dataset, fake)
    data = torchvision_set(name)
    assert data.shape == (3, 32, 32)
    assert (data.train.inputs[:, 2] == 7).all()
    assert data.num_classes == classes
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", TORCHVISION_SETS)
def test_a_failed_download_says_where_files_may_be_put(name: str, root: Path, monkeypatch: Any) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("<urlopen error name\nresolution failed>")

    dataset = {"fashion-mnist": "FashionMNIST"}.get(name, name.upper())
    monkeypatch.setattr(torchvision.datasets, dataset, fail)
    with pytest.raises(ValueError, match=f"^{name} could not be downloaded.*name resolution failed") as error:
        torchvision_set(name)
    assert str(root) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cache_folder_that_cannot_be_made_is_an_error_too(root: Path, monkeypatch: Any) -> None:
    root.write_text("a file where the folder should be")
    with pytest.raises(ValueError, match="mnist could not be downloaded"):
        torchvision_set("mnist")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no data set of torchvision is known as 'imagenet'; known are cifar10"):
        torchvision_set("imagenet")
