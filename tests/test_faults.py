"""Killed runs resume to the same result, and a failing disk loses nothing."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from acil.cli.results import RunFolder

RUN = ["run", "--phases", "5", "--classes", "20", "--train-per-class", "40", "--test-per-class", "6", "--epochs", "2",
       "--buffer-size", "256"]  # fmt: skip


def start(*arguments: str, cache: Path, limit: int | None = None) -> subprocess.Popen[str]:
    """The command in a process of its own; ``limit`` is the largest file it may write, in bytes."""

    def restrict() -> None:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-m", "acil.cli", *arguments],
        env={**os.environ, "ACIL_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=restrict,
    )


def finish(*arguments: str, cache: Path) -> None:
    process = start(*arguments, cache=cache)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def error_of(shown: str) -> str:
    """The one line that is no progress."""
    (line,) = [line for line in shown.splitlines() if not line.startswith(("data:", "base training:", "phases:"))]
    return line


def result_of(folder: Path) -> list[dict[str, Any]]:
    """Everything a run found out, without the seconds that it took."""
    return [
        {name: value for name, value in vars(record).items() if not name.endswith("seconds")}
        for record in RunFolder.open(folder).phases()
    ]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def undisturbed(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run that nothing happened to, and the seconds it took."""
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    finish(*RUN, "--output", str(folder), cache=cache)
    started = time.perf_counter()
    finish(*RUN, "--output", str(folder.with_name("timed")), cache=cache)
    return folder, time.perf_counter() - started


def kill_and_resume(folder: Path, cache: Path, delays: list[float]) -> None:
    """Kill the run after each delay, resuming in between, then let it finish."""
    command = [*RUN, "--output", str(folder)]
    for delay in delays:
        process = start(*command, cache=cache)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (folder / "config.json").exists():
            command = ["run", "--resume", str(folder)]
    finish(*command, cache=cache)


def test_a_run_killed_in_base_training_and_between_phases_ends_the_same(
    undisturbed: tuple[Path, float], cache: Path, tmp_path: Path
) -> None:
    folder, seconds = undisturbed
    kill_and_resume(tmp_path / "run", cache, [0.6 * seconds, 0.8 * seconds])
    assert result_of(tmp_path / "run") == result_of(folder)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_run_killed_at_a_random_moment_ends_the_same(
    seed: int, undisturbed: tuple[Path, float], cache: Path, tmp_path: Path
) -> None:
    folder, seconds = undisturbed
    kill_and_resume(tmp_path / "run", cache, [random.Random(seed).uniform(0.1, 1.0) * seconds])
    assert result_of(tmp_path / "run") == result_of(folder)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in folder.iterdir()}


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    undisturbed: tuple[Path, float], cache: Path, tmp_path: Path
) -> None:
    process = start(*RUN, "--output", str(tmp_path / "run"), cache=cache, limit=200_000)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert error_of(errors).startswith("Error: cannot write")
    finish("run", "--resume", str(tmp_path / "run"), cache=cache)
    assert result_of(tmp_path / "run") == result_of(undisturbed[0])


def test_an_unwritable_folder_is_one_line(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    process = start(*RUN, "--output", str(tmp_path / "file" / "run"), cache=cache)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert error_of(errors).startswith("Error: cannot make the folder")
