"""Runs the contests of a comparison in processes of their own, as many at a time as there are cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock

from rich.progress import Progress

from acil.cli.comparison import ComparisonFolder
from acil.cli.launch import THREADS

SECONDS_BETWEEN_LOOKS = 1.0


class Processes:
    """Processes of one module, with equal shares of the cores; all of them end with the block.

    Args:
        folder: the comparison that they work on.
        jobs: how many at a time.
    """

    def __init__(self, folder: ComparisonFolder, jobs: int) -> None:
        self.folder = folder
        self.pool = ThreadPoolExecutor(jobs)
        threads = os.environ.get(THREADS) or str(max(1, cores() // jobs))
        self.environment = {**os.environ, THREADS: threads}
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = False
        self._lock = Lock()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._ended = True
            for process in self._running:
                process.terminate()
        self.pool.shutdown()

    def start(self, *arguments: str) -> Future[str]:
        """Begin with these arguments as soon as a core is free; the result is an error's last line, or nothing."""
        return self.pool.submit(self._run, arguments)

    def _run(self, arguments: Sequence[str]) -> str:
        command = [sys.executable, "-m", "acil.cli.contest", str(self.folder.path), *arguments]
        with self._lock:
            if self._ended:
                return ""
            process = subprocess.Popen(
                command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            self._running.add(process)
        _, printed = process.communicate()
        with self._lock:
            self._running.discard(process)
        return last_words(process.returncode, printed)


def last_words(status: int, printed: str) -> str:
    """Why a process failed: the last line it printed, or its status where it died without a word; else nothing."""
    if status == 0:
        return ""
    return (printed.strip().splitlines() or [f"ended with status {status}"])[-1]


def fight_missing(folder: ComparisonFolder, jobs: int | None, bar: Progress) -> None:
    """Make what the comparison lacks: the base of each seed first, then each method in a process.

    Args:
        folder: the comparison.
        jobs: processes at a time; None for one for each core, or one where a GPU computes.
        bar: shows what is done.

    Raises:
        ValueError: base training failed; says why. What was made stays on disk.
    """
    on_gpu = folder.comparison.experiment["device"] != "cpu"
    most = jobs or (1 if on_gpu else cores())
    _prepare_bases(folder, most, bar)
    _fight(folder, most, bar)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _prepare_bases(folder: ComparisonFolder, most: int, bar: Progress) -> None:
    seeds, missing = folder.comparison.seeds, folder.missing_bases()
    task = bar.add_task("base training and features", total=seeds, completed=seeds - len(missing))
    with Processes(folder, max(1, min(most, len(missing)))) as processes:
        for future in [processes.start(str(seed)) for seed in missing]:
            if error := future.result():
                raise ValueError(f"base training failed: {error}")
            bar.advance(task)


def _fight(folder: ComparisonFolder, most: int, bar: Progress) -> None:
    total, missing = len(folder.comparison.contests()), folder.missing()
    task = bar.add_task("contests", total=total, completed=total - len(missing))
    work = dict.fromkeys((contest.seed, contest.method) for contest in missing)
    with Processes(folder, max(1, min(most, len(work)))) as processes:
        futures = {processes.start(str(seed), method): (seed, method) for seed, method in work}
        unfinished = set(futures)
        while unfinished:
            finished, unfinished = wait(unfinished, timeout=SECONDS_BETWEEN_LOOKS)
            for future in finished:
                if error := future.result():
                    _write_failure(folder, *futures[future], error)
            bar.update(task, completed=total - len(folder.missing()))


def _write_failure(folder: ComparisonFolder, seed: int, method: str, error: str) -> None:
    """A process that ended without a word, for lack of memory perhaps, fails in all that it left."""
    for contest in folder.missing():
        if (contest.seed, contest.method) == (seed, method):
            folder.write_failure(contest, error)
