"""Data sets by name."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from acil.scenarios import available, load_data


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACIL_CACHE", str(tmp_path / "cache"))


def test_what_is_available() -> None:
    names = [
        "cifar10",
        "cifar100",
        "fashion-mnist",
        "features:PATH",
        "folder:PATH",
        "glyphs",
        "mnist",
        "svhn",
    ]
    assert available() == names


def test_glyphs_takes_its_sizes_and_its_seed() -> None:
    first, other = (load_data("glyphs", seed=s, classes=3, train_per_class=4, test_per_class=2) for s in (0, 1))
    assert (first.name, first.num_classes, len(first.train), len(first.test)) == ("glyphs", 3, 12, 6)
    assert (first.train.inputs != other.train.inputs).any()


def test_features_and_folders_take_a_path_that_may_hold_colons(tmp_path: Path) -> None:
    file = tmp_path / "a:b.npz"
    np.savez(file, features=np.eye(4), labels=[0, 0, 1, 1])
    assert load_data(f"features:{file}").name == f"features:{file}"
    with pytest.raises(ValueError, match="x:y is not a folder"):
        load_data("folder:x:y", image_size=8)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("glyph", {}, "no data set is called 'glyph'; there are cifar10, .*did you mean glyphs"),
        ("cifar-100", {}, "did you mean cifar100"),
        ("zzz", {}, "svhn$"),
        ("", {}, "no data set is called ''"),
        ("folder", {}, "folder needs a path; write folder:PATH"),
        ("features:", {}, "features needs a path"),
        ("glyphs:x", {}, "glyphs takes no path, got 'glyphs:x'"),
        ("mnist", {"classes": 5}, "classes applies to glyphs only, not to mnist"),
        ("folder:x", {"train_per_class": 5}, "train_per_class applies to glyphs only, not to folder"),
        ("features:x", {"test_per_class": 5}, "test_per_class applies to glyphs only"),
        ("glyphs", {"image_size": 64}, "image_size applies to folder only, not to glyphs"),
    ],
)
def test_what_cannot_be_loaded_is_answered_by_what_can(spec: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_data(spec, **options)


def test_importing_the_package_pulls_in_nothing_heavy() -> None:
    heavy = "('avalanche', 'torchvision', 'matplotlib', 'PIL', 'click', 'acil.strategies', 'acil.cli')"
    code = f"import acil.scenarios, sys; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
