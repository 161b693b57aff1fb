r"""Tables of robust and open-set training on real images; every row is a command that can be run by itself.

    python benchmarks/robustness.py --data folder:cifar-10 --foreign folder:tiny-imagenet-32 --output runs/robustness
    python benchmarks/robustness.py --data folder:cifar-10 --foreign folder:tiny-imagenet-32 --tables detection \
        --output runs/wrn -- --image-size 32 --backbone wrn-40-2 --epochs 24 --padding 4 --bfloat16
    python benchmarks/robustness.py --data glyphs --foreign folder:tiny-imagenet-32 --tables detection \
        --train-per-class 0 --output runs/glyphs -- --epochs 24

Rows that are there already are not run again, so an interrupted call goes on where it was. Writes robustness.md,
robustness.csv and robustness.png beside the rows' JSON files.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from rich.progress import Progress
from train_classifier import parse

from acil.cli.contests import last_words

NOISES = {
    "symmetric 20 %": "symmetric:0.2",
    "symmetric 50 %": "symmetric:0.5",
    "asymmetric 40 %": "asymmetric:0.4",
    "instance 40 %": "instance:0.4",
}
CLIP = {"symmetric:0.2": "1", "symmetric:0.5": "1", "asymmetric:0.4": "1", "instance:0.4": "1"}
ETA = {"symmetric:0.2": "2.5", "symmetric:0.5": "2.5", "asymmetric:0.4": "3", "instance:0.4": "3.5"}
LOSSES = {"CE": "ce", "GCE": "gce", "SCE": "sce", "NCE+AGCE": "nce+agce"}
TAILS = {"rho 0.01": "exp:0.01", "rho 0.1": "exp:0.1"}
TABLES = ["noise", "long tail", "detection"]
HEADLINES = ("CE", "CE + LogitClip", "CE + ODNL")

# Classes of Tiny-ImageNet that show what CIFAR-10 shows: cats, dogs, frogs, birds, deer, cars, trucks, buses and boats.
KNOWN_IN_TINY_IMAGENET = (
    *("n02123045", "n02123394", "n02124075", "n02125311", "n02129165"),
    *("n02085620", "n02094433", "n02099601", "n02099712", "n02106662", "n02113799"),
    *("n01641577", "n01644900", "n01855672", "n02002724", "n02056570", "n02058221", "n02423022"),
    *("n02814533", "n03100240", "n03670208", "n04285008", "n03796401", "n03977966", "n04146614", "n04487081"),
    *("n04465501", "n03662601", "n03447447"),
)


@dataclass(frozen=True)
class Row:
    """One training: where it stands in the tables, and the options that make it."""

    table: str
    world: str
    method: str
    seed: int
    options: tuple[str, ...]

    @property
    def file(self) -> str:
        """Name of its JSON file."""
        words = f"{self.table} {self.world} {self.method} {self.seed}".replace("%", "").replace("+", " ").split()
        return "-".join(words).lower() + ".json"


def noise_rows(seeds: int) -> Iterable[Row]:
    """Losses with and without LogitClip, and ODNL, under each kind of label noise."""
    for seed in range(seeds):
        for world, noise in NOISES.items():
            noisy = ("--label-noise", noise)
            yield Row("noise", world, "CE", seed, noisy)
            yield Row("noise", world, "CE + LogitClip", seed, (*noisy, "--logit-clip", CLIP[noise]))
            yield Row("noise", world, "CE + ODNL", seed, (*noisy, "--open-set", f"odnl:{ETA[noise]}"))
    for name, loss in list(LOSSES.items())[1:]:
        for world, noise in NOISES.items():
            noisy = ("--label-noise", noise, "--loss", loss)
            yield Row("noise", world, name, 0, noisy)
            yield Row("noise", world, f"{name} + LogitClip", 0, (*noisy, "--logit-clip", CLIP[noise]))


def tail_rows(seeds: int) -> Iterable[Row]:
    """Plain training and Open-Sampling on long-tailed data, with all images of the largest class."""
    for seed in range(seeds):
        for world, imbalance in TAILS.items():
            tailed = ("--imbalance", imbalance, "--train-per-class", "0", "--epochs", "40")
            yield Row("long tail", world, "CE", seed, tailed)
            yield Row("long tail", world, "CE + Open-Sampling", seed, (*tailed, "--open-set", "open-sampling:1"))


def detection_rows(seeds: int, data: str, foreign_test: str) -> Iterable[Row]:
    """Plain training and LogitNorm, against foreign images."""
    drawn = "symbols" if data == "glyphs" else "glyphs"
    against = ("--against", foreign_test, "gaussian", "rademacher", "blobs", drawn)
    for seed in range(seeds):
        yield Row("detection", "clean labels", "CE", seed, against)
        yield Row("detection", "clean labels", "CE + LogitNorm", seed, (*against, "--logit-norm", "0.04"))


def all_rows(options: argparse.Namespace) -> list[Row]:
    """Rows in the order of their worth: first seeds of headlines first."""
    detection = detection_rows(options.seeds, options.data, f"{options.foreign}/val")
    rows = [*noise_rows(options.seeds), *tail_rows(options.seeds), *detection]
    rows = [row for row in rows if row.table in options.tables]
    return sorted(rows, key=lambda row: row.seed + (row.table == "noise" and row.method not in HEADLINES) / 2)


def command(row: Row, options: argparse.Namespace) -> list[str]:
    """The row's command, without its output."""
    script = str(Path(__file__).with_name("train_classifier.py"))
    common = ["--data", options.data, *(["--image-size", "16"] if options.data.startswith("folder:") else [])]
    common += ["--foreign", f"{options.foreign}/train"]
    common += ["--train-per-class", str(options.train_per_class), "--seed", str(row.seed)]
    return [sys.executable, script, *common, "--without", *KNOWN_IN_TINY_IMAGENET, *row.options, *options.common]


def run(row: Row, options: argparse.Namespace) -> str:
    """Train the row in a process of one thread; returns an error's last line, or nothing."""
    output = options.output / row.file
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    typed = [*command(row, options), "--output", str(output)]
    done = subprocess.run(typed, env=environment, capture_output=True, text=True, check=False)
    return last_words(done.returncode, done.stderr)


def refuse_other_settings(rows: list[Row], options: argparse.Namespace) -> None:
    """Rows that are there must have been made by the commands that the tables would give for them.

    Raises:
        SystemExit: one was not; names its file.
    """
    for row in rows:
        file = options.output / row.file
        if file.exists():
            content = json.loads(file.read_text())
            if "heads" not in content:
                raise SystemExit(f"{file} was made by an earlier version; choose another --output")
            made = content["settings"]
            wanted = {name: value for name, value in vars(parse(command(row, options)[2:])).items() if name != "output"}
            if different := [name for name in wanted if made.get(name) != wanted[name]]:
                raise SystemExit(f"{file} was made with another {', '.join(different)}; choose another --output")


def run_missing(rows: list[Row], options: argparse.Namespace) -> None:
    """Train what is not there yet, and write the tables after every row."""
    missing = [row for row in rows if not (options.output / row.file).exists()]
    with Progress() as bar, ThreadPoolExecutor(options.jobs) as pool:
        task = bar.add_task("rows", total=len(rows), completed=len(rows) - len(missing))
        futures = {pool.submit(run, row, options): row for row in missing}
        for future in as_completed(futures):
            if error := future.result():
                bar.print(f"{futures[future].file}: {error}")
            bar.advance(task)
            write_tables(rows, options)


Figures = Mapping[tuple[str, str, str], list[dict[str, Any]]]


def load(rows: list[Row], folder: Path) -> Figures:
    """The figures of each table, world and method, one for each seed that is there."""
    figures: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if (folder / row.file).exists():
            content = json.loads((folder / row.file).read_text())
            figures.setdefault((row.table, row.world, row.method), []).append(content)
    return figures


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean in percent, with the standard deviation over seeds where there are several."""
    mean = f"{100 * statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.{digits}f}"


def noise_table(figures: Figures) -> list[str]:
    """Last and best accuracy of each method under each noise."""
    return by_noise(figures, "{} ({})", itemgetter("last"), itemgetter("best"))


def head_table(figures: Figures) -> list[str]:
    """Accuracy of the head that learns the wrong labels on the features of each method."""
    return by_noise(figures, "{}", ridge)


def ridge(row: Mapping[str, Any]) -> float:
    """Accuracy of the head that is a ridge regression."""
    return float(row["heads"]["acil"]["all"])


def by_noise(figures: Figures, cell: str, *measures: Callable[[Mapping[str, Any]], float]) -> list[str]:
    """A line for each method and a column for each noise; a cell holds these measures."""
    methods = list(dict.fromkeys(method for table, _, method in figures if table == "noise"))
    lines = ["| training | " + " | ".join(NOISES) + " |", "| --- |" + " ---: |" * len(NOISES)]
    for method in methods:
        cells = []
        for world in NOISES:
            found = figures.get(("noise", world, method), [])
            cells.append(cell.format(*(spread(list(map(measure, found))) for measure in measures)) if found else "-")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def tail_table(figures: Figures) -> list[str]:
    """Accuracy over all classes, and those with many, medium and few samples.

    Of the classifier that was trained, with the running normalisation statistics of its training as published figures
    have them, then of the heads that take its place.
    """
    groups = ("all", "many", "medium", "few")
    lines = ["| data | training | classified by | all | many-shot | medium-shot | few-shot |"]
    lines += ["| --- | --- | --- |" + " ---: |" * len(groups)]
    for (table, world, method), found in figures.items():
        if table != "long tail":
            continue
        of_classifiers = {"its classifier": [row["groups"] for row in found]}
        of_heads = {f"`{head}`": [row["heads"][head] for row in found] for head in found[0]["heads"]}
        for name, seeds in {**of_classifiers, **of_heads}.items():
            cells = " | ".join(spread([seed[group] for seed in seeds]) for group in groups)
            lines.append(f"| {world} | {method} | {name} | {cells} |")
    return lines


def detection_table(figures: Figures) -> list[str]:
    """False positives at 95 % and AUROC of each score on each foreign source, a column for each training."""
    trainings = {method: found for (table, _, method), found in figures.items() if table == "detection"}
    headings = [f"{method}, right on {spread([row['last'] for row in found])} %" for method, found in trainings.items()]
    lines = ["| foreign images | score | " + " | ".join(headings) + " |", "| --- | --- |" + " ---: |" * len(headings)]
    columns = [by_score(found) for found in trainings.values()]
    for source, score in columns[0] if columns else ():
        name = Path(source.removeprefix("folder:")).parent.name if "/" in source else source
        cells = " | ".join(column[source, score] for column in columns)
        lines.append(f"| {name} | {score} | {cells} |")
    return lines


def by_score(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """FPR95 and AUROC over seeds, by foreign source and score."""
    measured: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    for row in rows:
        for one in row["detection"]:
            measured.setdefault((one["source"], one["score"]), []).append(one)
    return {
        place: f"{spread([one['fpr95'] for one in seeds])} / {spread([one['auroc'] for one in seeds])}"
        for place, seeds in measured.items()
    }


def write_tables(rows: list[Row], options: argparse.Namespace) -> None:
    """Markdown, CSV and picture from the rows that are there."""
    figures = load(rows, options.output)
    tables = {
        "Label noise": noise_table,
        "Heads": head_table,
        "Long tails": tail_table,
        "Foreign images": detection_table,
    }
    text = [line for title, table in tables.items() for line in (f"## {title}", "", *table(figures), "")]
    (options.output / "robustness.md").write_text("\n".join(text))
    with (options.output / "robustness.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["table", "world", "method", "seed", "last", "best", "fitted labels", "ridge", "seconds", "command"]
        )
        for row in rows:
            if (options.output / row.file).exists():
                one = json.loads((options.output / row.file).read_text())
                shares = (one["last"], one["best"], one["fitted_labels"], ridge(one))
                accuracies = [f"{share:.4f}" for share in shares]
                typed = "python benchmarks/" + shlex.join(command(row, options)[1:]).partition("benchmarks/")[2]
                writer.writerow([row.table, row.world, row.method, row.seed, *accuracies, round(one["seconds"]), typed])
    if any(table == "noise" for table, _, _ in figures):
        draw(figures, options.output / "robustness.png")


def draw(figures: Figures, picture: Path) -> None:
    """Accuracy on clean test images by epoch, for the headline methods under each noise."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    worlds = [world for world in NOISES if any(found[:2] == ("noise", world) for found in figures)]
    size = (3.6 * len(worlds), 3.2)
    sheet, axes = pyplot.subplots(1, len(worlds), figsize=size, sharey=True, squeeze=False, layout="constrained")
    panels = axes[0]
    for panel, world in zip(panels, worlds, strict=True):
        for colour, method in zip(("tab:gray", "tab:blue", "tab:orange"), HEADLINES, strict=True):
            for place, one in enumerate(figures.get(("noise", world, method), [])):
                epochs = [int(epoch) for epoch in one["by_epoch"]]
                accuracy = [100 * value for value in one["by_epoch"].values()]
                label = method if place == 0 else None
                panel.plot(epochs, accuracy, color=colour, label=label, alpha=0.8, linewidth=1.5)
        panel.set(title=world, xlabel="epoch")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy on clean test images, %")
    panels[0].legend(frameon=False, fontsize=8)
    sheet.savefig(picture, dpi=130)
    pyplot.close(sheet)


def main() -> None:
    """Parse the options, train what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="as acil run takes it: CIFAR-10 as folder:cifar-10, or glyphs")
    parser.add_argument("--foreign", required=True, help="Tiny-ImageNet with train/ and val/, as folder:PATH")
    parser.add_argument("--output", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--train-per-class", type=int, default=1_000)
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the headline rows; the others have one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="rows at a time, with one thread each")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("common", nargs="*", help="further options of every row, after --")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = all_rows(options)
    refuse_other_settings(rows, options)
    run_missing(rows, options)
    write_tables(rows, options)


if __name__ == "__main__":
    main()
