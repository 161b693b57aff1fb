"""How many digits of the weights are right: both heads and plain normal equations against 50-digit joint solutions.

    pip install '.[benchmarks]'
    python benchmarks/numerical_error.py --output docs

Writes numerical-error.csv, numerical-error.png and estimated-error.png. Features have a prescribed condition number,
stand in the order of their classes, and come in 1 to 10,000 batches.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from ridge_solutions import EXACT, FLOATING, Reference, exact_head, floating, relative_error, solved
from torch import Tensor

from acil.head.ridge import TOLERATED_ERROR

if TYPE_CHECKING:
    from flint import arb_mat

DIM = 96
SAMPLES = 10_000
CLASSES = 10
CONDITIONS = tuple(10.0**decade for decade in range(0, 13, 2))
GAMMAS = tuple(10.0**decade for decade in range(-6, 4))
BATCHES = 1, 10, 100, 1_000, 10_000
USUAL_BATCHES = 100
STREAM_CONDITION = 1e4
DRAWN_GAMMAS = 1e-6, 1.0
PRINTED_GAMMAS = 1e-6, 1e-3, 1.0, 1e3

# Columns that the widest table needs.
WIDTH = 160

# Where errors of 1 and more are drawn, and the end of the axis.
USELESS, TOP = 3.0, 100.0

# Okabe and Ito's colours, which colour-blind readers tell apart, each with a marker of its own.
STYLES = {
    "ExactHead, 8 bits": ("#0072b2", "o-"),
    "ExactHead, 16 bits": ("#56b4e9", "s-"),
    "RecursiveHead": ("#009e73", "^-"),
    "normal equations, float64": ("#000000", "v--"),
    "recursion, float64": ("#e69f00", "P--"),
    "recursion, float32": ("#d55e00", "D:"),
    "normal equations, float32": ("#cc79a7", "x:"),
}
KIND_STYLES = ("#0072b2", "o"), ("#e69f00", "s"), ("#009e73", "^"), ("#d55e00", "D"), ("#cc79a7", "v"), ("#000000", "x")


@dataclass(frozen=True)
class Measurement:
    """One row of the CSV; errors are relative, in the Frobenius norm, and nan where there is no solution."""

    method: str
    features: str
    gamma: float
    batches: int
    error: float  # of the weights, against the joint solution of the very numbers that were accumulated
    estimated_error: float = math.nan
    quantisation_error: float = math.nan  # of the weights, against the joint solution of the features
    fitted_error: float = math.nan  # of the fitted values that these weights give
    digest: str = ""  # of the bits of the weights


def conditioned(condition: float) -> tuple[Tensor, Tensor]:
    """Features (n, d) whose singular values fall geometrically, and labels that depend on all of them alike."""
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(SAMPLES, DIM, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator, dtype=torch.float64)).Q
    teacher = torch.randn(DIM, CLASSES, generator=generator, dtype=torch.float64)
    values = torch.logspace(0, -math.log10(condition), DIM, dtype=torch.float64)
    values *= math.sqrt(SAMPLES * DIM) / torch.linalg.vector_norm(values)  # entries of size 1
    labels, order = torch.sort(torch.argmax(left @ teacher, dim=1))
    return ((left * values) @ right.t())[order], labels


def troubled() -> dict[str, tuple[Tensor, Tensor]]:
    """Rectified features as buffer layers give them, and what makes their moments singular or nearly so."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2_000) % CLASSES
    centres = torch.randn(CLASSES, DIM, generator=generator, dtype=torch.float64)
    features = torch.relu(centres[labels] + torch.randn(2_000, DIM, generator=generator, dtype=torch.float64))
    unused = features.clone()
    unused[:, ::8] = 0.0
    few = slice(0, DIM // 2)
    return {
        "fewer samples than features": (features[few], labels[few]),
        "the same, features 100 times as large": (100 * features[few], labels[few]),
        "every feature twice": (features[:, : DIM // 2].repeat(1, 2), labels),
        "one feature in eight always zero": (unused, labels),
        "scales from 1 to 0.001": (features * torch.logspace(0, -3, DIM, dtype=torch.float64), labels),
    }


def measure_conditions() -> Iterator[Measurement]:
    """Every method for every condition number and gamma, in the usual number of batches."""
    for condition in track(CONDITIONS, "conditions", console=Console(stderr=True)):
        features, labels = conditioned(condition)
        joint = Reference(features, labels).weights(GAMMAS)
        yield from measure_exact(named(condition), features, labels, USUAL_BATCHES, joint)
        yield from measure_floating(named(condition), features, labels, USUAL_BATCHES, joint)


def measure_batches() -> Iterator[Measurement]:
    """Every method for every number of batches, at one condition number."""
    name = named(STREAM_CONDITION)
    features, labels = conditioned(STREAM_CONDITION)
    joint = Reference(features, labels).weights(DRAWN_GAMMAS)
    for batches in track(BATCHES, "batches", console=Console(stderr=True)):
        yield from measure_exact(name, features, labels, batches, joint)
        yield from measure_floating(name, features, labels, batches, joint)


def measure_trouble() -> Iterator[Measurement]:
    """``ExactHead`` where the solve is ill-conditioned, or looks so."""
    for name, (features, labels) in track(troubled().items(), "trouble", console=Console(stderr=True)):
        yield from measure_exact(name, features, labels, 1, Reference(features, labels).weights(GAMMAS))


def measure_floating(
    name: str, features: Tensor, labels: Tensor, batches: int, joint: dict[float, arb_mat]
) -> Iterator[Measurement]:
    """Each of ``FLOATING``, for the gammas of the joint solutions."""
    for gamma, reference in joint.items():
        for method in FLOATING:
            error = relative_error(floating(method, features, labels, gamma, batches), reference)
            yield Measurement(method, name, gamma, batches, error)


def measure_exact(
    name: str, features: Tensor, labels: Tensor, batches: int, joint: dict[float, arb_mat]
) -> Iterator[Measurement]:
    """Each of ``EXACT``: against the solution of its integers, and against that of the features."""
    for method in EXACT:
        head = exact_head(method, features, labels, batches)
        own = Reference(head.quantizer(features), labels, float(head.quantizer.scale)).weights(tuple(joint))
        for gamma in joint:
            weight, estimate = solved(head, gamma)
            errors = relative_error(weight, own[gamma]), estimate, relative_error(weight, joint[gamma])
            fitted = fitted_error(features, weight, joint[gamma])
            yield Measurement(method, name, gamma, batches, *errors, fitted, digest(weight))


def named(condition: float) -> str:
    """The name of features with this condition number."""
    return f"condition {condition:.0e}"


def fitted_error(features: Tensor, weight: Tensor | None, joint: arb_mat) -> float:
    """Relative error of ``features @ weight``, in the Frobenius norm."""
    if weight is None:
        return math.nan
    rounded = torch.tensor([float(value) for value in joint.entries()], dtype=torch.float64).view_as(weight)
    norm = torch.linalg.vector_norm
    return float(norm(features @ (weight - rounded)) / norm(features @ rounded))


def digest(weight: Tensor | None) -> str:
    """The first digits of the SHA-256 of its bits."""
    return "" if weight is None else hashlib.sha256(weight.numpy().tobytes()).hexdigest()[:8]


def error_table(title: str, rows: list[Measurement], column: str) -> Table:
    """Errors of every method, a line for each value of gamma and of ``column``."""
    table = Table(column, "gamma", *STYLES, title=title)
    for key, gamma in dict.fromkeys((getattr(row, column), row.gamma) for row in rows):
        line = {row.method: row.error for row in rows if (getattr(row, column), row.gamma) == (key, gamma)}
        table.add_row(str(key), f"{gamma:.0e}", *(shown(line[method]) for method in STYLES))
    return table


def quantisation_table(rows: list[Measurement]) -> Table:
    """What rounding the features costs, apart from all rounding of sums and solves."""
    table = Table("features", "gamma", *(f"{method}: {what}" for method in EXACT for what in ("weights", "fitted")))
    exact = [row for row in rows if row.method in EXACT]
    for name, gamma in dict.fromkeys((row.features, row.gamma) for row in exact):
        errors = [
            shown(error)
            for row in exact
            for error in (row.quantisation_error, row.fitted_error)
            if (row.features, row.gamma) == (name, gamma)
        ]
        table.add_row(name, f"{gamma:.0e}", *errors)
    return table


def estimate_table(rows: list[Measurement]) -> Table:
    """Estimated over true error, and warnings that the true error does not call for."""
    table = Table("features", "solves", "estimated / true: least", "median", "largest", "warnings", "called for")
    for name in dict.fromkeys(kind(row) for row in rows):
        of_kind = [row for row in rows if kind(row) == name and row.error > 0]
        ratios = [row.estimated_error / row.error for row in of_kind]
        warned = [row for row in of_kind if row.estimated_error > TOLERATED_ERROR]
        called = sum(row.error > TOLERATED_ERROR for row in of_kind)
        figures = min(ratios), statistics.median(ratios), max(ratios)
        table.add_row(name, str(len(ratios)), *(f"{ratio:.2g}" for ratio in figures), str(len(warned)), str(called))
    return table


def kind(row: Measurement) -> str:
    """What the estimate's figure and table tell apart."""
    return "condition 1 to 1e12" if row.features.startswith("condition") else row.features


def shown(error: float) -> str:
    """An error for a table."""
    return "none" if math.isnan(error) else f"{error:.1e}"


def draw_errors(by_condition: list[Measurement], by_batches: list[Measurement], path: Path) -> None:
    """Errors over condition numbers above, over numbers of batches below; a small and a usual gamma side by side."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 2, sharex="row", sharey=True, figsize=(9, 8), layout="constrained")
    for (above, below), gamma in zip(panels.T, DRAWN_GAMMAS, strict=True):
        for method, (colour, style) in STYLES.items():
            for panel, rows, places in ((above, by_condition, CONDITIONS), (below, by_batches, BATCHES)):
                errors = [row.error for row in rows if row.method == method and row.gamma == gamma]
                heights = [min(error, USELESS) if error == error else USELESS for error in errors]
                panel.plot(places, heights, style, color=colour, label=method, markersize=5, linewidth=1.2)
        above.set(xlabel="condition number of the features", title=f"gamma = {gamma:g}, {USUAL_BATCHES} batches")
        below.set(xlabel="batches", title=f"gamma = {gamma:g}, condition number {STREAM_CONDITION:.0e}")
    for panel in panels.flat:
        panel.set(xscale="log", yscale="log", ylim=(1e-16, TOP))
        panel.axhspan(1, TOP, color="#dddddd")
        panel.grid(alpha=0.3)
    for panel in panels[:, 0]:
        panel.set_ylabel("relative error of the weights")
        panel.text(1, 12, "no digit right, or no solution", fontsize=9, color="#444444")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)


def draw_estimates(rows: list[Measurement], path: Path) -> None:
    """Estimated over true errors of ``ExactHead``."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(7, 5.5), layout="constrained")
    for name, (colour, marker) in zip(dict.fromkeys(map(kind, rows)), KIND_STYLES, strict=True):
        errors = [(row.error, row.estimated_error) for row in rows if kind(row) == name]
        panel.plot(*zip(*errors, strict=True), marker, color=colour, markersize=5, label=name, alpha=0.8)
    ends = torch.tensor([1e-16, 1.0])
    panel.plot(ends, ends, "k-", linewidth=1, label="equal")
    panel.axhline(TOLERATED_ERROR, color="black", linestyle=":", linewidth=1, label="a warning above")
    panel.set(
        xscale="log", yscale="log", xlabel="true relative error of the weights", ylabel="estimated relative error"
    )
    panel.grid(alpha=0.3)
    panel.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def write(rows: list[Measurement], path: Path) -> None:
    """All measurements as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Measurement))
        writer.writerows(vars(row).values() for row in rows)


def main() -> None:
    """Parse the options, print the tables, write the CSV and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the CSV and the pictures")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    conditions, batches, trouble = list(measure_conditions()), list(measure_batches()), list(measure_trouble())
    console = Console()
    console.width = max(console.width, WIDTH)
    printed = [row for row in conditions if row.gamma in PRINTED_GAMMAS]
    console.print(error_table(f"{USUAL_BATCHES} batches", printed, "features"))
    console.print(error_table(named(STREAM_CONDITION), batches, "batches"))
    console.print(quantisation_table(printed))
    exact = [row for row in conditions + trouble if row.method in EXACT]
    console.print(estimate_table(exact))
    bits = {(row.method, row.gamma, row.digest) for row in batches if row.method in EXACT}
    console.print(
        f"{len(EXACT) * len(DRAWN_GAMMAS)} solutions of ExactHead in {len(BATCHES)} ways: {len(bits)} digests"
    )
    write(conditions + batches + trouble, output / "numerical-error.csv")
    draw_errors(conditions, batches, output / "numerical-error.png")
    draw_estimates(exact, output / "estimated-error.png")


if __name__ == "__main__":
    main()
