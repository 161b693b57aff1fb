"""What robust base training buys for continual learning: runs in phases with wrong labels or long tails.

    python benchmarks/robust_phases.py --output runs/robust-phases -- --epochs 30
    python benchmarks/robust_phases.py --foreign folder:cifar-10 -- --data folder:tiny-imagenet-32 --epochs 20

Every row is an ``acil run`` whose folder is left there; finished ones are not run again. Writes robust-phases.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.progress import Progress

from acil.cli.contests import last_words

NOISE = ("--label-noise", "symmetric:0.4")
TAIL = ("--imbalance", "exp:0.02")
CLIP = ("--logit-clip", "5")  # with 50 classes, a norm of 1 keeps cross-entropy above 2.9; with 100, above 3.6
BASE, INCREMENTS = ("--corrupt", "base"), ("--corrupt", "increments")


def rows(foreign: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """What is wrong, how the base phase is trained, and the options that make it so."""
    odnl = ("--open-set", "odnl:2.5", "--foreign", foreign)
    sampling = ("--open-set", "open-sampling:1", "--foreign", foreign)
    return [
        ("nothing", "CE", ()),
        ("nothing", "CE + LogitClip", CLIP),
        ("40 % of the labels of the base phase", "CE", (*NOISE, *BASE)),
        ("40 % of the labels of the base phase", "CE + LogitClip", (*NOISE, *BASE, *CLIP)),
        ("40 % of the labels of the base phase", "GCE", (*NOISE, *BASE, "--loss", "gce")),
        ("40 % of the labels of the base phase", "CE + ODNL", (*NOISE, *BASE, *odnl)),
        ("40 % of the labels of the increments", "CE", (*NOISE, *INCREMENTS)),
        ("40 % of the labels of the increments", "CE + LogitClip", (*NOISE, *INCREMENTS, *CLIP)),
        ("long tail in the base phase", "CE", (*TAIL, *BASE)),
        ("long tail in the base phase", "CE + Open-Sampling", (*TAIL, *BASE, *sampling)),
        ("long tail in the increments", "CE", (*TAIL, *INCREMENTS)),
        ("long tail in the increments", "CE + Open-Sampling", (*TAIL, *INCREMENTS, *sampling)),
    ]


def folder(output: Path, wrong: str, training: str) -> Path:
    """The results folder of a row."""
    return output / "-".join(f"{wrong} {training}".replace("%", "").replace("+", "").lower().split())


def command(options: tuple[str, ...], common: list[str]) -> list[str]:
    """The row's command, without its output."""
    return ["run", "--phases", "25", *common, *options]


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


def write_table(output: Path, foreign: str, common: list[str]) -> None:
    """One line for each finished run.

    "Classifier" is the accuracy on the base classes of the linear classifier that trained the backbone, and "head"
    that of the head which replaces it.
    """
    lines = [
        "| wrong | base training | classifier | head | average | last | seconds | command |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for wrong, training, options in rows(foreign):
        summary = folder(output, wrong, training) / "summary.json"
        if summary.exists():
            figures = json.loads(summary.read_text())
            base = figures["base_training"]
            accuracies = [base["accuracy"], figures["phases"][0]["accuracy"]]
            accuracies += [figures["average_incremental_accuracy"], figures["last_accuracy"]]
            cells = " | ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies)
            seconds = round(base["seconds"] + figures["learning_seconds"])
            typed = "acil " + shlex.join(command(options, common))
            lines.append(f"| {wrong} | {training} | {cells} | {seconds} | `{typed}` |")
    (output / "robust-phases.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Parse the options, make the missing runs, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/robust-phases"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, with one thread each")
    parser.add_argument("--foreign", default="symbols", help="foreign images of ODNL and Open-Sampling")
    parser.add_argument("common", nargs="*", help="further options of every run, after --")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with Progress() as bar, ThreadPoolExecutor(options.jobs) as pool:
        task = bar.add_task("runs", total=len(rows(options.foreign)))
        futures = {}
        for wrong, training, changes in rows(options.foreign):
            target = folder(options.output, wrong, training)
            if target.exists():
                refuse_other_settings(target, command(changes, options.common))
            if (target / "summary.json").exists():
                bar.advance(task)
            else:
                futures[pool.submit(run, target, command(changes, options.common))] = target
        for future in as_completed(futures):
            if error := future.result():
                bar.print(f"{futures[future]}: {error}")
            bar.advance(task)
            write_table(options.output, options.foreign, options.common)
    write_table(options.output, options.foreign, options.common)


if __name__ == "__main__":
    main()
