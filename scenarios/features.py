"""Features that were extracted elsewhere, in one .npz file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from acil.scenarios.labelled import DataSource, LabelledTensors
from acil.scenarios.split import stratified_split

_TWO_PARTS = ("train_features", "train_labels", "test_features", "test_labels")
_ONE_PART = ("features", "labels")

Rows = tuple[NDArray[np.float32], NDArray[np.int64]]


def feature_file(path: str | Path, seed: int = 0) -> DataSource:
    """Read features and labels from an .npz file.

    The file holds ``train_features`` (n, f), ``train_labels`` (n,), ``test_features`` (m, f) and
    ``test_labels`` (m,); or ``features`` and ``labels``, of which a fifth of each class, chosen by the seed,
    is for testing. Optional ``class_names`` are strings: one for each class that occurs, in the order of the
    labels, or one for each label from 0 on. Features of any real type become float32; labels are whole
    numbers from 0 on, and where some do not occur, the others are renumbered to close the gaps.

    Args:
        path: the file.
        seed: splits a file that has no test part.

    Raises:
        ValueError: if the file cannot be read, an array is missing, or has another shape or type, NaN or
            infinite features, negative labels, or test labels that do not occur in training.
    """
    file = Path(path).expanduser()
    arrays = _read(file)
    two_parts = all(name in arrays for name in _TWO_PARTS)
    if not two_parts and not all(name in arrays for name in _ONE_PART):
        raise ValueError(
            f"{file} must hold {', '.join(_TWO_PARTS)}, or {' and '.join(_ONE_PART)}; it holds "
            f"{', '.join(sorted(arrays)) or 'nothing'}"
        )
    names = _TWO_PARTS if two_parts else _ONE_PART
    train = _rows(file, arrays, *names[:2])
    test = _rows(file, arrays, *names[2:]) if two_parts else train
    originals = np.unique(train[1])
    if unknown := sorted(set(test[1].tolist()) - set(originals.tolist())):
        raise ValueError(f"{file}: test_labels has classes that train_labels lacks: {unknown[:10]}")
    class_names = _class_names(file, arrays, originals)
    train, test = ((rows, np.searchsorted(originals, labels)) for rows, labels in (train, test))
    if not two_parts:
        chosen = stratified_split(train[1], class_names, seed)
        train, test = ((train[0][places], train[1][places]) for places in chosen)
    return DataSource(f"features:{path}", _labelled(train), _labelled(test), class_names, augmentation="none")


def _labelled(rows: Rows) -> LabelledTensors:
    features, labels = rows
    return LabelledTensors(torch.from_numpy(features), torch.from_numpy(labels))


def _read(file: Path) -> dict[str, NDArray[Any]]:
    if not file.is_file():
        raise ValueError(f"{file} is not a file; give the path of an .npz file of features")
    try:
        with file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is one array, not an archive of named arrays")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{file} cannot be read as an .npz file ({error}); write it with numpy.savez, without objects"
        ) from error


def _rows(file: Path, arrays: Mapping[str, NDArray[Any]], features_name: str, labels_name: str) -> Rows:
    """One part's features and labels, checked."""
    features, labels = arrays[features_name], arrays[labels_name]
    if features.ndim != 2 or features.dtype.kind not in "fiu" or features.size == 0:
        raise ValueError(
            f"{file}: {features_name} must be a filled array (n, f) of real numbers, got {features.dtype} of "
            f"shape {features.shape}"
        )
    if labels.shape != features.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{file}: {labels_name} must be {len(features)} whole numbers, one for each row of "
            f"{features_name}, got {labels.dtype} of shape {labels.shape}"
        )
    if labels.min() < 0 or labels.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{file}: {labels_name} must be 0 or more, got {labels.min()} to {labels.max()}")
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused in the next line
        features = np.ascontiguousarray(features, dtype=np.float32)
    if bad := int((~np.isfinite(features)).sum()):
        raise ValueError(f"{file}: {bad} values of {features_name} are NaN or infinite as float32")
    return features, labels.astype(np.int64)


def _class_names(file: Path, arrays: Mapping[str, NDArray[Any]], originals: NDArray[np.int64]) -> tuple[str, ...]:
    """One name for each label that occurs: as the file says, or else the label itself."""
    if "class_names" not in arrays:
        return tuple(str(label) for label in originals)
    names = arrays["class_names"]
    if names.ndim == 1 and names.dtype.kind == "U":
        if len(names) == len(originals):
            return tuple(names.tolist())
        if len(names) > originals.max():
            return tuple(names[originals].tolist())
    raise ValueError(
        f"{file}: class_names must be {len(originals)} strings (one for each class that occurs), or one for "
        f"each label from 0 to {originals.max()}; got {names.dtype} of shape {names.shape}"
    )
