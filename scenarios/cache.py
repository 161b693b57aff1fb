"""Arrays that are made once and kept on disk: the cache behind every data set that takes time to make."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray


def cache_folder() -> Path:
    """The folder for cached data: ``$ACIL_CACHE``, else ``$XDG_CACHE_HOME/acil``, else ``~/.cache/acil``."""
    if own := os.environ.get("ACIL_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "acil"
    return Path("~/.cache/acil").expanduser()


def cached_array(name: str, key: Mapping[str, Any], make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """The array that ``make`` returns, read from the cache where it is there.

    Any number of processes may ask at once: each writes under a name of its own and renames, so that no one
    ever sees half a file. A folder that cannot be written to costs a warning, never the array.

    Args:
        name: the beginning of the file's name.
        key: everything that the array depends on, as values that JSON can hold.
        make: computes the array; called when the cache has no readable copy.

    Returns:
        The array, mapped from the file where possible. Writing to it changes memory only, never the file.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / f"{name}-{digest[:32]}.npy"
    array = _load(path)
    if array is not None:
        return array
    array = make()
    try:
        _store(path, array)
    except OSError as error:
        reason = error.strerror or error
        warnings.warn(
            f"{name} could not be kept in the cache folder {path.parent} ({reason}) and will be made anew "
            "each time; set ACIL_CACHE to a folder that can be written to",
            stacklevel=2,
        )
        return array
    stored = _load(path)
    return array if stored is None else stored


def _load(path: Path) -> NDArray[Any] | None:
    """The array in the file, or None where the file is missing, cut short or not an array."""
    try:
        # Copy-on-write: torch accepts the array as writable, and yet no writer can reach the file.
        return np.load(path, mmap_mode="c", allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError, EOFError):
        return None


def _store(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}-{uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
