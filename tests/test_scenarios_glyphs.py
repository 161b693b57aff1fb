"""The embedded letters: distinct, in faces apart, and the same for the same seed."""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch

from acil.scenarios import LabelledTensors, fonts
from acil.scenarios.glyphs import MAX_CLASSES, Distortion, distort, glyphs

SMALL = {"classes": 6, "train_per_class": 8, "test_per_class": 3}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACIL_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def distinct() -> str:
    return fonts.distinct_letters()


def equal(first: LabelledTensors, second: LabelledTensors) -> bool:
    return torch.equal(first.inputs, second.inputs) and torch.equal(first.targets, second.targets)


def test_shapes_types_and_names() -> None:
    data = glyphs(**SMALL)
    assert data.train.inputs.shape == (48, 1, 32, 32)
    assert data.test.inputs.shape == (18, 1, 32, 32)
    assert data.train.targets.bincount().tolist() == [8] * 6
    assert data.test.targets.bincount().tolist() == [3] * 6
    assert data.augmentation == "affine"
    assert len(set(data.class_names)) == data.num_classes == 6
    assert all(len(name) == 1 and name.isalnum() for name in data.class_names)


def test_a_second_call_reads_what_the_first_has_kept(folder: Path) -> None:
    first = glyphs(**SMALL)
    kept = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    second = glyphs(**SMALL)
    assert equal(first.train, second.train)
    assert equal(first.test, second.test)
    assert kept == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_the_seed_fixes_the_images_and_not_the_letters() -> None:
    first, other = glyphs(**SMALL), glyphs(**SMALL, seed=1)
    assert first.class_names == other.class_names
    assert not torch.equal(first.train.inputs, other.train.inputs)


def test_fewer_classes_are_the_first_of_more() -> None:
    few, many = glyphs(**SMALL), glyphs(**{**SMALL, "classes": 9})
    assert many.class_names[:6] == few.class_names
    assert torch.equal(many.train.inputs[:48], few.train.inputs)


def test_images_do_not_depend_on_the_number_of_threads(distinct: str) -> None:
    faces = fonts.renderings(distinct[:1])[:, 0]
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(distort(faces, 301, np.random.default_rng(0), Distortion()))
    finally:
        torch.set_num_threads(before)
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()


def test_making_them_leaves_every_global_random_state_as_it_was() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    glyphs(**SMALL, seed=7)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert before[2] == random.getstate()


def test_two_processes_at_once_make_the_same_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACIL_CACHE", str(folder / "own"))
    mine = hashlib.sha256(glyphs(**SMALL).train.inputs.numpy().tobytes()).hexdigest()
    shared = folder / "shared"
    shared.mkdir()
    for letters in (folder / "own").glob("glyphs-letters-*"):  # spares both two seconds of comparing letters
        shutil.copy(letters, shared)
    code = (
        "import hashlib\nfrom acil.scenarios.glyphs import glyphs\n"
        "data = glyphs(classes=6, train_per_class=8, test_per_class=3)\n"
        "print(hashlib.sha256(data.train.inputs.numpy().tobytes()).hexdigest())"
    )
    command, environment = (
        [sys.executable, "-W", "error", "-c", code],
        {**os.environ, "ACIL_CACHE": str(shared)},
    )
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0].strip() for process in both] == [mine, mine]
    assert len(list(shared.glob("*.npy"))) == len(list(shared.iterdir())) == 3


def test_an_unwritable_cache_costs_warnings_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = glyphs(**SMALL)
    (folder / "file").touch()
    monkeypatch.setenv("ACIL_CACHE", str(folder / "file"))
    with pytest.warns(UserWarning, match="could not be kept"):
        data = glyphs(**SMALL)
    assert equal(data.train, expected.train)


def test_training_and_test_faces_are_apart(distinct: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not set(fonts.TRAIN_FACES) & set(fonts.TEST_FACES)
    # With the held-out faces blank, every test image is flat noise, and no training image has changed.
    before = glyphs(**SMALL)
    blank = fonts.renderings(distinct[:6]).copy()
    blank[len(fonts.TRAIN_FACES) :] = 0
    monkeypatch.setattr(fonts, "renderings", lambda letters: blank)
    monkeypatch.setattr("acil.scenarios.glyphs._FORMAT", 0)  # another cache key
    monkeypatch.setattr("acil.scenarios.glyphs._alphabet", lambda: distinct)
    after = glyphs(**SMALL)
    assert equal(after.train, before.train)
    assert not torch.equal(after.test.inputs, before.test.inputs)


def test_there_are_enough_letters(distinct: str) -> None:
    assert len(set(distinct)) == len(distinct) >= MAX_CLASSES


TWINS = {
    "A": "LATIN CAPITAL LETTER A, GREEK CAPITAL LETTER ALPHA, CYRILLIC CAPITAL LETTER A",
    "B": "LATIN CAPITAL LETTER B, GREEK CAPITAL LETTER BETA, CYRILLIC CAPITAL LETTER VE",
    "3": "DIGIT THREE, CYRILLIC CAPITAL LETTER ZE",
    "I": "LATIN CAPITAL LETTER I, GREEK CAPITAL LETTER IOTA, LATIN SMALL LETTER L",
    "p": "LATIN SMALL LETTER P, CYRILLIC SMALL LETTER ER",
    "o": "LATIN SMALL LETTER O, LATIN CAPITAL LETTER O, GREEK SMALL LETTER OMICRON, CYRILLIC SMALL LETTER O",
    "c": "LATIN SMALL LETTER C, LATIN CAPITAL LETTER C, CYRILLIC SMALL LETTER ES",
    "s": "LATIN SMALL LETTER S, LATIN CAPITAL LETTER S, CYRILLIC SMALL LETTER DZE",
    "v": "LATIN SMALL LETTER V, LATIN CAPITAL LETTER V",
    "w": "LATIN SMALL LETTER W, LATIN CAPITAL LETTER W",
    "x": "LATIN SMALL LETTER X, LATIN CAPITAL LETTER X, CYRILLIC SMALL LETTER HA, GREEK CAPITAL LETTER CHI",
    "z": "LATIN SMALL LETTER Z, LATIN CAPITAL LETTER Z, GREEK CAPITAL LETTER ZETA",
}


@pytest.mark.parametrize("names", TWINS.values(), ids=TWINS)
def test_of_letters_that_look_alike_one_stays(distinct: str, names: str) -> None:
    assert sum(unicodedata.lookup(name) in distinct for name in names.split(", ")) == 1


def test_letters_with_a_shape_of_their_own_stay(distinct: str) -> None:
    assert set("AaRrGEeQqJj245") <= set(distinct)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 1}, "2 to 400 classes to choose from, got classes=1"),
        ({"classes": 401}, "2 to 400 classes to choose from, got classes=401"),
        ({"train_per_class": 0}, "train_per_class must be at least 1, got 0"),
        ({"test_per_class": -3}, "test_per_class must be at least 1, got -3"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        glyphs(**arguments)
