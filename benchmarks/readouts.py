"""Methods, bits and gamma on the features of finished runs, side by side.

    acil run --phases 10 --output runs/glyphs
    acil run --phases 10 --output runs/photos --data folder:photos --epochs 12
    python benchmarks/readouts.py runs/glyphs runs/photos --output docs

For each run: its frozen backbone, its phases. Every method learns phase by phase, from features that are extracted
once. The picture shows accuracy against gamma with the automatic choice marked.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from dataclasses import dataclass
from pathlib import Path

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
from acil.head.ridge import CLASSIFIERS_SHARE, choose_gamma

DECADES = [10.0**power for power in range(-5, 6)]
CURVES = ("acil", "fourier")


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


def learn(features: Features, learner: AnalyticLearner, precision: str, method: str) -> Row:
    """Learn phase by phase; accuracy on the classes seen after each."""
    accuracies = []
    for rows, labels in features.phases:
        learner.learn_features(rows, labels)
        accuracies.append(100 * count_correct(learner, *features.test).accuracy)
    average = sum(accuracies) / len(accuracies)
    gamma = learner.head.chosen_gamma
    return Row(features.name, method, precision, learner.head.dim, gamma, average, accuracies[-1])


def new_learner(features: Features, method: str, dim: int, **options: object) -> AnalyticLearner:
    """A learner of ready features."""
    return create_learner(
        nn.Identity(),
        method=method,
        buffer_size=dim,
        num_features=features.width,
        **options,  # type: ignore[arg-type]
    )


def compare(features: Features, dim: int, progress: Progress) -> tuple[list[Row], dict[str, AnalyticLearner]]:
    """Every method in 8 bits; the first ones in 16 bits and in float64 too, with the same gamma."""
    rows, learners = [], {}
    for method in ("acil", "fourier", "lda", "gkeal", "ds-al"):
        task = progress.add_task(f"{features.name}, d = {dim}, {method}", total=None)
        learner = new_learner(features, method, dim)
        rows.append(learn(features, learner, "8 bits", method))
        if method in CURVES:
            learners[method] = learner
            gamma = rows[-1].gamma
            wide = new_learner(features, method, dim, bits=16, gamma=gamma)
            rows.append(learn(features, wide, "16 bits", method))
            double = new_learner(features, method, dim, recursive=True, gamma=gamma)
            rows.append(learn(features, double, "float64", method))
        progress.update(task, total=1, completed=1)
    return rows, learners


def gamma_curve(features: Features, learner: AnalyticLearner) -> list[tuple[float, float]]:
    """(gamma, accuracy) over the decades, all phases learned."""
    curve = []
    assert isinstance(learner.head, ExactHead)
    chosen = learner.head.gamma
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IllConditionedWarning)
        for gamma in DECADES:
            learner.head.gamma = gamma
            curve.append((gamma, 100 * count_correct(learner, *features.test).accuracy))
    learner.head.gamma = chosen
    return curve


def draw(curves: dict[tuple[str, str, int], tuple[list[tuple[float, float]], float, float, float]], path: Path) -> None:
    """One panel per run: accuracy against gamma, the automatic choice and the minimiser of cross-validation marked."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    runs = list(dict.fromkeys(run for run, _, _ in curves))
    figure, panels = plt.subplots(1, len(runs), figsize=(4.4 * len(runs), 3.6), squeeze=False, layout="constrained")
    colours = {"acil": "#0072b2", "fourier": "#d55e00"}
    for panel, run in zip(panels[0], runs, strict=True):
        for (name, method, dim), (curve, chosen, accuracy, minimiser) in curves.items():
            if name != run:
                continue
            panel.plot(*zip(*curve, strict=True), color=colours[method], label=f"{method}, d = {dim}")
            panel.plot(chosen, accuracy, "o", color=colours[method], markersize=8)
            panel.axvline(minimiser, color=colours[method], linestyle=":", linewidth=1)
        panel.set(xscale="log", xlabel="gamma", title=run)
        panel.grid(alpha=0.3)
        panel.legend(frameon=False, loc="lower left")
    panels[0][0].set_ylabel("accuracy on all classes, %")
    figure.supxlabel("dot: gamma='auto'; dotted line: the minimiser of cross-validation itself", fontsize=9)
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
    losses = []
    curves = {}
    with Progress(console=Console(stderr=True)) as progress:
        for run in options.runs:
            features = Features.of_run(run)
            for dim in options.dims:
                more, learners = compare(features, dim, progress)
                rows += more
                for method, learner in learners.items():
                    curve = gamma_curve(features, learner)
                    chosen, accuracy = next((row.gamma, row.last) for row in more if row.method == method)
                    losses.append(
                        (features.name, method, dim, chosen, accuracy, max(curve, key=lambda point: point[1]))
                    )
                    assert isinstance(learner.head, ExactHead)
                    minimiser = choose_gamma(learner.head.moments, float(learner.head.quantizer.scale))
                    curves[features.name, method, dim] = curve, chosen, accuracy, minimiser / CLASSIFIERS_SHARE
    Console().print(method_table(rows))
    Console().print(gamma_table(losses))
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


def gamma_table(losses: list[tuple[str, str, int, float, float, tuple[float, float]]]) -> Table:
    """What the automatic gamma loses against the best decade."""
    table = Table("run", "method", "d", "auto gamma", "last %", "best decade", "its last %", "loss")
    for name, method, dim, chosen, accuracy, (best, highest) in losses:
        figures = f"{chosen:.3g}", f"{accuracy:.2f}", f"{best:g}", f"{highest:.2f}", f"{highest - accuracy:.2f}"
        table.add_row(name, method, str(dim), *figures)
    return table


if __name__ == "__main__":
    main()
