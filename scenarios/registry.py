"""Data sets by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from acil.scenarios.features import feature_file
from acil.scenarios.folder import image_folder
from acil.scenarios.glyphs import glyphs
from acil.scenarios.labelled import DataSource
from acil.scenarios.torchvision_sets import TORCHVISION_SETS, torchvision_set

_WITH_PATH = ("features", "folder")
_OWNERS = {
    "classes": "glyphs",
    "train_per_class": "glyphs",
    "test_per_class": "glyphs",
    "image_size": "folder",
}


def available() -> list[str]:
    """What :func:`load_data` accepts; ``PATH`` stands for a path."""
    return sorted(["glyphs", *TORCHVISION_SETS, *(f"{kind}:PATH" for kind in _WITH_PATH)])


def load_data(
    spec: str,
    *,
    seed: int = 0,
    image_size: int | None = None,
    classes: int | None = None,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
) -> DataSource:
    """Load a data set by name.

    Args:
        spec: one of :func:`available`, for example ``"glyphs"`` or ``"folder:photos"``.
        seed: draws the glyphs, or splits data that comes without a test part.
        image_size: pixels on a side, for ``folder:PATH``.
        classes: number of classes, for ``glyphs``.
        train_per_class: training images of each class, for ``glyphs``.
        test_per_class: test images of each class, for ``glyphs``.

    Raises:
        ValueError: if there is no such data set, an option does not apply to it, or it cannot be loaded.
    """
    kind, separator, path = spec.partition(":")
    _check_name(spec, kind, path, has_path=bool(separator))
    sizes = {"classes": classes, "train_per_class": train_per_class, "test_per_class": test_per_class}
    given = {name: value for name, value in sizes.items() if value is not None}
    for option in [*given, *(["image_size"] if image_size is not None else [])]:
        if _OWNERS[option] != kind:
            raise ValueError(f"{option} applies to {_OWNERS[option]} only, not to {kind}; leave it out")
    loaders: dict[str, Callable[[], DataSource]] = {
        "glyphs": lambda: glyphs(seed=seed, **given),
        "folder": lambda: image_folder(path, seed=seed, image_size=image_size),
        "features": lambda: feature_file(path, seed=seed),
    }
    return loaders.get(kind, lambda: torchvision_set(kind))()


def _check_name(spec: str, kind: str, path: str, has_path: bool) -> None:
    names = [*_WITH_PATH, "glyphs", *TORCHVISION_SETS]
    if kind not in names:
        close = difflib.get_close_matches(kind, names, n=1)
        if Path(spec).expanduser().is_dir():
            close = [f"folder:{spec}"]
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"no data set is called {spec!r}; there are {', '.join(available())}{hint}")
    if kind in _WITH_PATH and not path:
        raise ValueError(f"{kind} needs a path; write {kind}:PATH")
    if kind not in _WITH_PATH and has_path:
        raise ValueError(f"{kind} takes no path, got {spec!r}; write {kind}")
