"""The cache: made once, never half a file, never a reason to fail."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from acil.scenarios import cache

VALUES = np.arange(12).reshape(3, 4)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refuse() -> np.ndarray:
    raise AssertionError("the array was made again")


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("ACIL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "acil"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "acil"


def test_an_array_is_made_once_for_each_key() -> None:
    cache.cached_array("a", {"seed": 0}, lambda: VALUES)
    assert (cache.cached_array("a", {"seed": 0}, refuse) == VALUES).all()
    with pytest.raises(AssertionError, match="made again"):
        cache.cached_array("a", {"seed": 1}, refuse)


def test_writing_to_the_array_does_not_reach_the_file() -> None:
    cache.cached_array("a", {}, lambda: VALUES)[:] = 0
    assert (cache.cached_array("a", {}, refuse) == VALUES).all()


@pytest.mark.parametrize("kept", [0, 5, 130])
def test_a_file_cut_short_is_made_anew(folder: Path, kept: int) -> None:
    cache.cached_array("a", {}, lambda: VALUES)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:kept])
    assert (cache.cached_array("a", {}, lambda: VALUES) == VALUES).all()
    assert (cache.cached_array("a", {}, refuse) == VALUES).all()


def test_a_folder_that_cannot_be_written_costs_a_warning_only(folder: Path) -> None:
    folder.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be kept in the cache folder .*set ACIL_CACHE"):
        assert (cache.cached_array("a", {}, lambda: VALUES) == VALUES).all()


def test_a_disk_that_fills_up_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert (cache.cached_array("a", {}, lambda: VALUES) == VALUES).all()
    assert list(folder.iterdir()) == []


def test_many_may_make_the_same_array_at_once(folder: Path) -> None:
    barrier = Barrier(8)

    def make() -> np.ndarray:
        barrier.wait(timeout=20)  # all are past the look into the cache before any writes
        return VALUES

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: cache.cached_array("a", {}, make), range(8)))
    assert all((result == VALUES).all() for result in results)
    assert [path.suffix for path in folder.iterdir()] == [".npy"]
