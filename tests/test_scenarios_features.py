"""Feature files: what is read is what was written, and what is wrong is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acil.scenarios.features import feature_file

ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)
TWO = {
    "train_features": ROWS,
    "train_labels": np.array([0, 1, 2, 0, 1, 2]),
    "test_features": ROWS[:2] + 0.5,
    "test_labels": np.array([2, 1]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.npz"


def test_two_parts_are_taken_as_they_are(path: Path) -> None:
    np.savez(path, **TWO)
    data = feature_file(path)
    assert data.is_features
    assert data.shape == (2,)
    assert data.augmentation == "none"
    assert data.class_names == ("0", "1", "2")
    assert torch.equal(data.train.inputs, torch.from_numpy(ROWS))
    assert data.test.targets.tolist() == [2, 1]


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8])
def test_any_real_type_becomes_float32(path: Path, dtype: type) -> None:
    np.savez(path, **{**TWO, "train_features": ROWS.astype(dtype)})
    assert feature_file(path).train.inputs.dtype == torch.float32


def test_one_part_is_split_by_the_seed(path: Path) -> None:
    rows = np.arange(40, dtype=np.float32).reshape(20, 2)
    np.savez(path, features=rows, labels=np.arange(20) % 2)
    first, again, other = (feature_file(path, seed=seed) for seed in (0, 0, 1))
    assert first.test.targets.bincount().tolist() == [2, 2]
    assert torch.equal(first.test.inputs, again.test.inputs)
    assert not torch.equal(first.test.inputs, other.test.inputs)
    everything = torch.cat([first.train.inputs, first.test.inputs])
    assert torch.equal(everything.sort(0).values, torch.from_numpy(rows))


def test_gaps_in_the_labels_are_closed_and_names_keep_the_originals(path: Path) -> None:
    gaps = {**TWO, "train_labels": TWO["train_labels"] * 10 + 5, "test_labels": np.array([25, 15], np.uint8)}
    np.savez(path, **gaps)
    data = feature_file(path)
    assert data.class_names == ("5", "15", "25")
    assert data.train.targets.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.test.targets.tolist() == [2, 1]
    np.savez(path, **gaps, class_names=["ant", "bee", "cat"])
    assert feature_file(path).class_names == ("ant", "bee", "cat")
    np.savez(path, **gaps, class_names=[f"name {label}" for label in range(30)])
    assert feature_file(path).class_names == ("name 5", "name 15", "name 25")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_features": ROWS[0]}, r"train_features must be a filled array \(n, f\).* of shape \(2,\)"),
        ({"train_features": ROWS[:0]}, "train_features must be a filled array"),
        ({"train_features": ROWS.astype(bool)}, "real numbers, got bool"),
        ({"train_features": ROWS.astype(object)}, "cannot be read as an .npz file"),
        ({"train_features": ROWS / np.float32("nan")}, "12 values of train_features are NaN"),
        (
            {"test_features": np.full((2, 2), 1e300)},
            "4 values of test_features are NaN or infinite",
        ),
        ({"test_features": np.ones((2, 3), np.float32)}, "must agree"),
        ({"train_labels": np.array([0, 1])}, "train_labels must be 6 whole numbers"),
        ({"test_labels": np.array([0.0, 1.0])}, "whole numbers.* got float64"),
        ({"test_labels": np.array([0, -1])}, "test_labels must be 0 or more, got -1"),
        ({"test_labels": np.array([0, 7])}, r"classes that train_labels lacks: \[7\]"),
        ({"class_names": np.array(["a"])}, "class_names must be 3 strings"),
        ({"class_names": np.array([1, 2, 3])}, "class_names must be 3 strings"),
    ],
)
def test_bad_arrays_are_refused_with_the_name_of_the_file(path: Path, change: dict[str, Any], message: str) -> None:
    np.savez(path, **{**TWO, **change})
    with pytest.raises(ValueError, match=message) as error:
        feature_file(path)
    assert "some.npz" in str(error.value) or "must agree" in message


def test_files_that_are_no_archive_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"some\.npz is not a file"):
        feature_file(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"some\.npz cannot be read"):
        feature_file(path)
    np.savez(path, **TWO)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"some\.npz cannot be read"):
        feature_file(path)
    np.save(tmp_path / "one.npy", ROWS)
    with pytest.raises(ValueError, match="one array, not an archive"):
        feature_file(tmp_path / "one.npy")
    np.savez(path, features=ROWS)
    with pytest.raises(ValueError, match="features and labels; it holds features"):
        feature_file(path)
