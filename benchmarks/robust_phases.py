"""What robust base training buys for continual learning: runs in phases with wrong labels or long tails.

    python benchmarks/robust_phases.py --output runs/robust-phases -- --epochs 24
    python benchmarks/robust_phases.py --foreign folder:cifar-10/train -- --data folder:tiny-imagenet-32 --epochs 60

Every row is an ``acil run`` whose folder is left there; finished ones are not run again. What each backbone
gives with each head is measured on the features of its run. Writes robust-phases.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from readouts import Features, accuracies, new_learner
from rich.progress import Progress
from robustness import spread

from acil.cli.contests import last_words
from acil.cli.results import RunFolder
from acil.cli.settings import RunSettings
from acil.files import write_atomically

NOISE = ("--label-noise", "symmetric:0.4")
TAIL = ("--imbalance", "exp:0.02")
# As benchmarks/choose_setting.py chooses them.
CLIP = ("--logit-clip", "2")
ODNL = "odnl:0.5"
BASE, INCREMENTS = ("--corrupt", "base"), ("--corrupt", "increments")
NOTHING, NOISY_BASE = "nothing", "40 % of the labels of the base phase"
NOISY_INCREMENTS = "40 % of the labels of the increments"
TAILED_BASE, TAILED_INCREMENTS = "long tail in the base phase", "long tail in the increments"
HEADS = ("acil", "lda")
HEADLINES = {(wrong, training) for wrong in (NOTHING, NOISY_BASE) for training in ("CE", "CE + LogitClip")}


@dataclass(frozen=True)
class Row:
    """What is wrong, how the base phase is trained, and the options that make it so."""

    wrong: str
    training: str
    options: tuple[str, ...]

    def seeds(self, wanted: int) -> range:
        """The class orders that the row is run with."""
        return range(wanted if (self.wrong, self.training) in HEADLINES else 1)

    def folder(self, output: Path, seed: int) -> Path:
        """The results folder of a run."""
        words = f"{self.wrong} {self.training}".replace("%", "").replace("+", "").lower().split()
        return output / "-".join([*words, *(["seed", str(seed)] if seed else [])])

    def command(self, common: list[str], seed: int) -> list[str]:
        """A run's command, without its output."""
        return ["run", "--phases", "25", *common, *self.options, *(["--seed", str(seed)] if seed else [])]


def all_rows(foreign: str) -> list[Row]:
    """The rows of the table."""
    odnl = ("--open-set", ODNL, "--foreign", foreign)
    sampling = ("--open-set", "open-sampling:1", "--foreign", foreign)
    return [
        Row(NOTHING, "CE", ()),
        Row(NOTHING, "CE + LogitClip", CLIP),
        Row(NOISY_BASE, "CE", (*NOISE, *BASE)),
        Row(NOISY_BASE, "CE + LogitClip", (*NOISE, *BASE, *CLIP)),
        Row(NOISY_BASE, "GCE", (*NOISE, *BASE, "--loss", "gce")),
        Row(NOISY_BASE, "CE + ODNL", (*NOISE, *BASE, *odnl)),
        Row(NOISY_INCREMENTS, "CE", (*NOISE, *INCREMENTS)),
        Row(NOISY_INCREMENTS, "CE + LogitClip", (*NOISE, *INCREMENTS, *CLIP)),
        Row(TAILED_BASE, "CE", (*TAIL, *BASE)),
        Row(TAILED_BASE, "CE + Open-Sampling", (*TAIL, *BASE, *sampling)),
        Row(TAILED_INCREMENTS, "CE", (*TAIL, *INCREMENTS)),
        Row(TAILED_INCREMENTS, "CE + Open-Sampling", (*TAIL, *INCREMENTS, *sampling)),
    ]


def run(target: Path, typed: list[str]) -> str:
    """Make the run in a process of one thread; returns an error's last line, or nothing."""
    resume = ["run", "--resume", str(target)] if target.exists() else [*typed, "--output", str(target)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [sys.executable, "-m", "acil.cli", *resume]
    done = subprocess.run(started, env=environment, capture_output=True, text=True, check=False)
    return last_words(done.returncode, done.stderr)


def refuse_other_settings(target: Path, typed: list[str]) -> None:
    """A run that is there must have been made by the command that the table would give for it.

    Raises:
        SystemExit: it was not.
    """
    made = shlex.split((target / "command.txt").read_text())
    if made != ["acil", *typed, "--output", str(target)]:
        raise SystemExit(f"{target} was made by another command, {shlex.join(made)}; choose another --output")


def figures(run: Path) -> tuple[float, ...]:
    """What the first table shows of a run: four accuracies, and its seconds."""
    summary = json.loads((run / "summary.json").read_text())
    base = summary["base_training"]
    return (
        base["accuracy"],
        summary["phases"][0]["accuracy"],
        summary["average_incremental_accuracy"],
        summary["last_accuracy"],
        base["seconds"] + summary["learning_seconds"],
    )


def figures_of_heads(run: Path) -> tuple[float, ...]:
    """What the second table shows of a run: base, average and last accuracy of each head on the run's features.

    Heads have the run's width and seed, and else their own settings.
    """
    file = run / "heads.json"
    by_phase: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}
    if missing := [method for method in HEADS if method not in by_phase]:
        settings, features = RunSettings.from_config(RunFolder.open(run).config), Features.of_run(run)
        for method in missing:
            learner = new_learner(features, method, settings.buffer_size, seed=settings.seed)
            by_phase[method] = accuracies(features, learner)
        write_atomically(file, json.dumps(by_phase).encode())
    return tuple(f(by_phase[method]) for method in HEADS for f in (itemgetter(0), statistics.mean, itemgetter(-1)))


def finished(output: Path, row: Row, seeds: int) -> list[Path]:
    """The runs of a row that have ended."""
    runs = [row.folder(output, seed) for seed in row.seeds(seeds)]
    return [run for run in runs if (run / "summary.json").exists()]


def cells(measured: Iterable[tuple[float, ...]]) -> str:
    """A cell for each figure, over seeds."""
    return " | ".join(spread(column, digits=2) for column in zip(*measured, strict=True))


def table_of_runs(output: Path, rows: list[Row], common: list[str], seeds: int) -> list[str]:
    """One line for each row that has finished runs.

    "Classifier" is the accuracy on the base classes of the linear classifier that trained the backbone, and "head"
    that of the head which replaces it.
    """
    lines = [
        "| wrong | base training | classifier | head | average | last | seconds | command |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        if measured := [figures(run) for run in finished(output, row, seeds)]:
            seconds = statistics.mean(run[-1] for run in measured)
            typed = "acil " + shlex.join(row.command(common, 0))
            shares = cells(run[:-1] for run in measured)
            lines.append(f"| {row.wrong} | {row.training} | {shares} | {seconds:.0f} | `{typed}` |")
    return lines


def table_of_heads(output: Path, rows: list[Row], seeds: int) -> list[str]:
    """One line for each row that has finished runs: what its backbones give with each head."""
    names = [f"{method}: {what}" for method in HEADS for what in ("head", "average", "last")]
    lines = [f"| wrong | base training | {' | '.join(names)} |", "| --- | --- |" + " ---: |" * len(names)]
    found = [(row, finished(output, row, seeds)) for row in rows]
    lines += [f"| {row.wrong} | {row.training} | {cells(map(figures_of_heads, runs))} |" for row, runs in found if runs]
    return lines


def write(output: Path, *tables: list[str]) -> None:
    """Markdown of these tables."""
    (output / "robust-phases.md").write_text("\n\n".join("\n".join(table) for table in tables) + "\n")


def main() -> None:
    """Parse the options, make the missing runs, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/robust-phases"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, with one thread each")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the headline rows; the others have one")
    parser.add_argument("--foreign", default="symbols", help="foreign images of ODNL and Open-Sampling")
    parser.add_argument("common", nargs="*", help="further options of every run, after --")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = all_rows(options.foreign)
    # First seeds first.
    runs = sorted(((row, seed) for row in rows for seed in row.seeds(options.seeds)), key=lambda one: one[1])
    with Progress() as bar, ThreadPoolExecutor(options.jobs) as pool:
        task = bar.add_task("runs", total=len(runs))
        futures = {}
        for row, seed in runs:
            target, typed = row.folder(options.output, seed), row.command(options.common, seed)
            if target.exists():
                refuse_other_settings(target, typed)
            if (target / "summary.json").exists():
                bar.advance(task)
            else:
                futures[pool.submit(run, target, typed)] = target
        for future in as_completed(futures):
            if error := future.result():
                bar.print(f"{futures[future]}: {error}")
            bar.advance(task)
            write(options.output, table_of_runs(options.output, rows, options.common, options.seeds))
    # Heads come last: they would take time from runs whose seconds are counted.
    of_runs = table_of_runs(options.output, rows, options.common, options.seeds)
    write(options.output, of_runs, table_of_heads(options.output, rows, options.seeds))


if __name__ == "__main__":
    main()
