"""What buffer size, gamma and bits do to the accuracy of the analytic methods.

    acil compare --data folder:photos --output runs/compare ...
    python benchmarks/buffer_sizes.py runs/compare --output docs

Learns the features that a comparison has extracted, all classes at once, which gives the weights of any number of
phases. Writes buffer-sizes.csv and buffer-sizes.png; rows that the CSV holds are not measured again.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.progress import Progress
from torch import nn

from acil import IllConditionedWarning, create_learner
from acil.cli.comparison import ComparisonFolder
from acil.cli.comparison_picture import COLOURS
from acil.cli.contest import load_features
from acil.cli.pictures import FAINT, INK, QUIET, new_figure, style, write_title
from acil.evaluate import count_correct
from acil.scenarios import LabelledTensors

METHODS = ("acil", "lda", "fourier", "gkeal")
DECADES = [10.0**power for power in range(-3, 5)]
BASE_ROWS = 10_000  # features that the frozen path is calibrated on


@dataclass(frozen=True)
class Setting:
    """A way to learn; gamma of None is the automatic choice."""

    method: str
    dim: int
    bits: int
    gamma: float | None


@dataclass(frozen=True)
class Row:
    """A setting, and what came of it."""

    method: str
    dim: int
    bits: int
    gamma: float
    automatic: bool
    accuracy: float
    seconds: float

    @property
    def setting(self) -> Setting:
        """What it was measured with."""
        return Setting(self.method, self.dim, self.bits, None if self.automatic else self.gamma)


def settings(dims: list[int], gamma_dim: int) -> list[Setting]:
    """All sizes with the automatic gamma, and both precisions and the decades of gamma at one size."""
    sizes = [Setting(method, dim, 8, None) for dim in dims for method in METHODS]
    precise = [Setting(method, gamma_dim, 16, None) for method in METHODS]
    decades = [Setting(method, gamma_dim, 8, gamma) for method in METHODS for gamma in DECADES]
    return sorted([*sizes, *precise, *decades], key=lambda setting: (setting.dim, setting.method, setting.bits))


class Learned:
    """A learner that has learned everything; kept for the next setting, which may differ in gamma alone."""

    def __init__(self, train: LabelledTensors, test: LabelledTensors) -> None:
        self.train, self.test = train, test
        self.parts: tuple[str, int, int] | None = None

    def measure(self, setting: Setting) -> Row:
        """Classify the test samples by the setting's weights."""
        parts = setting.method, setting.dim, setting.bits
        if parts != self.parts:
            self._learn(*parts)
            self.parts = parts
        head = self.learner.head
        head.gamma = setting.gamma or "auto"
        started = time.perf_counter()
        gamma = head.chosen_gamma
        _ = head.weight
        seconds = self.seconds + time.perf_counter() - started
        accuracy = count_correct(self.learner, self.test.inputs, self.test.targets).accuracy
        return Row(*parts, gamma, setting.gamma is None, accuracy, seconds)

    def _learn(self, method: str, dim: int, bits: int) -> None:
        width = self.train.inputs.shape[1]
        self.learner = create_learner(nn.Identity(), method=method, buffer_size=dim, bits=bits, num_features=width)
        self.learner.calibrate(self.train.inputs[:BASE_ROWS])
        started = time.perf_counter()
        self.learner.learn_features(self.train.inputs, self.train.targets)
        self.seconds = time.perf_counter() - started


def read(file: Path) -> list[Row]:
    """The rows of an earlier call."""
    if not file.exists():
        return []
    with file.open(newline="") as lines:
        return [
            Row(
                row["method"],
                int(row["dim"]),
                int(row["bits"]),
                float(row["gamma"]),
                row["automatic"] == "True",
                float(row["accuracy"]),
                float(row["seconds"]),
            )
            for row in csv.DictReader(lines)
        ]


def write(rows: list[Row], file: Path) -> None:
    """All rows as CSV."""
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def draw(rows: list[Row], file: Path, gamma_dim: int) -> None:
    """Accuracy against buffer size, and against gamma with the automatic choice marked."""
    with style():
        figure = new_figure(9.0, 4.3)
        write_title(figure, "Buffer size and gamma", "accuracy on all classes, in %")
        sizes = figure.add_axes((0.07, 0.14, 0.41, 0.64))
        gammas = figure.add_axes((0.56, 0.14, 0.41, 0.64), sharey=sizes)
        for method in METHODS:
            colour = COLOURS[method]
            own = [row for row in rows if row.method == method and row.bits == 8]
            by_size = sorted((row.dim, 100 * row.accuracy) for row in own if row.automatic)
            by_gamma = sorted((row.gamma, 100 * row.accuracy) for row in own if not row.automatic)
            sizes.plot(*zip(*by_size, strict=True), color=colour, marker="o", label=method)
            if by_gamma:
                gammas.plot(*zip(*by_gamma, strict=True), color=colour)
            chosen = [row for row in own if row.automatic and row.dim == gamma_dim]
            gammas.scatter(
                [row.gamma for row in chosen], [100 * row.accuracy for row in chosen], color=colour, s=60, zorder=3,
                edgecolors=INK,
            )  # fmt: skip
        sizes.set_xscale("log", base=2)
        ticks = sorted({row.dim for row in rows})
        sizes.set_xticks(ticks, [str(dim) for dim in ticks])
        gammas.set_xscale("log")
        sizes.set_xlabel("buffer size")
        gammas.set_xlabel(f"gamma at buffer size {gamma_dim}; ringed: automatic")
        sizes.legend(frameon=False)
        for axes in (sizes, gammas):
            axes.grid(axis="y", color=FAINT)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(colors=QUIET)
        figure.savefig(file, metadata={"Software": None})


def main() -> None:
    """Parse the options, measure what is missing, and write table and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="whose class order and backbone")
    parser.add_argument("--dims", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--gamma-dim", type=int, default=2048)
    parser.add_argument("--output", type=Path, default=Path("docs"))
    options = parser.parse_args()
    table = options.output / "buffer-sizes.csv"
    train, test = load_features(ComparisonFolder.open(options.comparison), options.seed)
    rows = read(table)
    wanted = settings(options.dims, options.gamma_dim)
    missing = [setting for setting in wanted if setting not in {row.setting for row in rows}]
    warnings.simplefilter("ignore", IllConditionedWarning)  # small gammas are meant to be tried
    learned = Learned(train, test)
    with Progress() as bar:
        for setting in bar.track(missing, description="settings"):
            rows.append(learned.measure(setting))
            write(rows, table)
    draw(rows, options.output / "buffer-sizes.png", options.gamma_dim)


if __name__ == "__main__":
    main()
