"""Methods, bits and gamma on the features of finished runs, side by side.

    acil run --phases 10 --output runs/glyphs
    acil run --phases 10 --output runs/photos --data folder:photos --epochs 12
    python benchmarks/readouts.py runs/glyphs runs/photos --output docs

For each run: its frozen backbone, its phases. Every method learns phase by phase, from features that are extracted
once. The picture shows accuracy against gamma, mean over random projections, with the automatic choice marked.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

from acil import AnalyticLearner, ExactHead, IllConditionedWarning, create_learner
from acil.cli.experiment import Experiment
from acil.cli.results import MODEL_FILE, RunFolder
from acil.cli.settings import RunSettings
from acil.evaluate import count_correct
from acil.head.ridge import choose_gamma

DECADES = [10.0**power for power in range(-5, 6)]
CURVES = {"acil": "#0072b2", "fourier": "#d55e00", "lda": "#009e73"}
PROJECTIONS = 5


@dataclass
class Features:
    """Backbone features of a run's data, and the phases of its training part."""

    name: str
    phases: list[tuple[Tensor, Tensor]]
    test: tuple[Tensor, Tensor]

    @property
    def width(self) -> int:
        """Number of features."""
        return self.test[0].shape[1]

    @classmethod
    def of_run(cls, run: Path) -> Features:
        """Extract them with the run's own backbone, or load them where an earlier call left them."""
        cached = run / "features.pt"
        if not cached.exists():
            experiment = Experiment.prepare(RunSettings.from_config(RunFolder.open(run).config))
            learner = AnalyticLearner.load(run / MODEL_FILE)
            train, test = experiment.source.train, experiment.source.test
            train_features, test_features = learner.extract(train.inputs), learner.extract(test.inputs)
            classes = [torch.tensor(labels) for labels in experiment.classes_by_phase()]
            members = [torch.isin(train.targets, labels) for labels in classes]
            phases = [(train_features[among], train.targets[among]) for among in members]
            torch.save({"phases": phases, "test": (test_features, test.targets)}, cached)
        stored = torch.load(cached, weights_only=True)
        return cls(run.name, stored["phases"], stored["test"])


@dataclass
class Row:
    """One way to learn the phases, and what came of it."""

    run: str
    method: str
    precision: str
    dim: int
    gamma: float
    average: float
    last: float


@dataclass
class GammaCurve:
    """Accuracy by gamma when all phases are learned: percentages for each projection, of the decades and of "auto"."""

    run: str
    method: str
    dim: int
    decades: list[list[float]]
    automatic: list[float]
    chosen: float
    minimiser: float

    @property
    def means(self) -> list[float]:
        """Mean over projections, by decade."""
        return [fmean(accuracies) for accuracies in zip(*self.decades, strict=True)]

    @property
    def losses(self) -> list[float]:
        """What "auto" loses against the best decade of each projection."""
        return [max(decades) - own for decades, own in zip(self.decades, self.automatic, strict=True)]


def accuracies(features: Features, learner: AnalyticLearner) -> list[float]:
    """Learn phase by phase; the shares right of the classes seen after each."""
    shares = []
    for rows, labels in features.phases:
        learner.learn_features(rows, labels)
        shares.append(count_correct(learner, *features.test).accuracy)
    return shares


def learn(features: Features, learner: AnalyticLearner, precision: str, method: str) -> Row:
    """One row of the table of methods."""
    percentages = [100 * share for share in accuracies(features, learner)]
    gamma = learner.head.chosen_gamma
    return Row(features.name, method, precision, learner.head.dim, gamma, fmean(percentages), percentages[-1])


def new_learner(features: Features, method: str, dim: int, **options: object) -> AnalyticLearner:
    """A learner of ready features."""
    return create_learner(
        nn.Identity(),
        method=method,
        buffer_size=dim,
        num_features=features.width,
        **options,  # type: ignore[arg-type]
    )


def compare(features: Features, dim: int, progress: Progress) -> list[Row]:
    """Every method in 8 bits; the first ones in 16 bits and in float64 too, with the same gamma."""
    rows = []
    for method in ("acil", "fourier", "lda", "gkeal", "ds-al"):
        task = progress.add_task(f"{features.name}, d = {dim}, {method}", total=None)
        rows.append(learn(features, new_learner(features, method, dim), "8 bits", method))
        if method in ("acil", "fourier"):
            gamma = rows[-1].gamma
            wide = new_learner(features, method, dim, bits=16, gamma=gamma)
            rows.append(learn(features, wide, "16 bits", method))
            double = new_learner(features, method, dim, recursive=True, gamma=gamma)
            rows.append(learn(features, double, "float64", method))
        progress.update(task, total=1, completed=1)
    return rows


def gamma_curve(features: Features, method: str, dim: int, progress: Progress) -> GammaCurve:
    """Learn all phases with every projection, and try the decades of gamma."""
    task = progress.add_task(f"{features.name}, d = {dim}, {method}, gammas", total=PROJECTIONS)
    curve = GammaCurve(features.name, method, dim, [], [], 0.0, 0.0)
    for seed in range(PROJECTIONS):
        learner = new_learner(features, method, dim, seed=seed)
        for rows, labels in features.phases:
            learner.learn_features(rows, labels)
        head = learner.head
        assert isinstance(head, ExactHead)
        curve.automatic.append(100 * count_correct(learner, *features.test).accuracy)
        if not seed:
            curve.chosen = head.chosen_gamma
            curve.minimiser = choose_gamma(head.moments, float(head.quantizer.scale), share=1.0)
        curve.decades.append([accuracy_at(gamma, learner, features) for gamma in DECADES])
        progress.advance(task)
    return curve


def accuracy_at(gamma: float, learner: AnalyticLearner, features: Features) -> float:
    """Percentage right with this gamma."""
    assert isinstance(learner.head, ExactHead)
    learner.head.gamma = gamma
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IllConditionedWarning)
        return 100 * count_correct(learner, *features.test).accuracy


def draw(curves: list[GammaCurve], path: Path) -> None:
    """One panel per run: accuracy against gamma, the automatic choice and the minimiser of cross-validation marked."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    runs = list(dict.fromkeys(curve.run for curve in curves))
    figure, panels = plt.subplots(1, len(runs), figsize=(4.4 * len(runs), 3.6), squeeze=False, layout="constrained")
    for curve in curves:
        panel, colour = panels[0][runs.index(curve.run)], CURVES[curve.method]
        panel.plot(DECADES, curve.means, color=colour, label=f"{curve.method}, d = {curve.dim}")
        panel.plot(curve.chosen, fmean(curve.automatic), "o", color=colour, markersize=8)
        panel.axvline(curve.minimiser, color=colour, linestyle=":", linewidth=1)
        panel.set(xscale="log", xlabel="gamma", title=curve.run)
        panel.grid(alpha=0.3)
        panel.legend(frameon=False, loc="lower left")
    panels[0][0].set_ylabel("accuracy on all classes, %")
    marks = "dot: gamma='auto'; dotted line: the minimiser of cross-validation itself"
    figure.supxlabel(f"mean over {PROJECTIONS} random projections; {marks}", fontsize=9)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Parse the options, print the tables, write readouts.csv and gamma.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="results folders of acil run")
    parser.add_argument("--dims", type=int, nargs="+", default=[2048])
    parser.add_argument("--output", type=Path, default=Path())
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    curves: list[GammaCurve] = []
    with Progress(console=Console(stderr=True)) as progress:
        for run in options.runs:
            features = Features.of_run(run)
            for dim in options.dims:
                rows += compare(features, dim, progress)
                curves += [gamma_curve(features, method, dim, progress) for method in CURVES]
    Console().print(method_table(rows))
    Console().print(gamma_table(curves))
    with (options.output / "readouts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row.__annotations__)
        writer.writerows(vars(row).values() for row in rows)
    draw(curves, options.output / "gamma.png")


def method_table(rows: list[Row]) -> Table:
    """Average and last accuracy by method and precision."""
    table = Table("run", "method", "precision", "d", "gamma", "average %", "last %")
    for row in rows:
        figures = f"{row.gamma:.3g}", f"{row.average:.2f}", f"{row.last:.2f}"
        table.add_row(row.run, row.method, row.precision, str(row.dim), *figures)
    return table


def gamma_table(curves: list[GammaCurve]) -> Table:
    """What the automatic gamma loses against the best decade: of the mean curve, and of the least lucky projection."""
    table = Table("run", "method", "d", "auto gamma", "last %", "best decade", "its last %", "loss", "largest loss")
    for curve in curves:
        highest, own = max(curve.means), fmean(curve.automatic)
        best = DECADES[curve.means.index(highest)]
        figures = f"{own:.2f}", f"{best:g}", f"{highest:.2f}", f"{highest - own:.2f}", f"{max(curve.losses):.2f}"
        table.add_row(curve.run, curve.method, str(curve.dim), f"{curve.chosen:.3g}", *figures)
    return table


if __name__ == "__main__":
    main()
