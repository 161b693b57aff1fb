"""A long stream: the last phase costs what the first one costs, and memory does not grow with samples.

    python benchmarks/growth.py --output docs

200 phases of 5,000 synthetic feature rows each. Writes growth.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from timing import once, resident_memory
from torch import nn

from acil import create_learner

FEATURES = 128
MEGABYTE = 1e6


def stream(phases: int, rows: int, dim: int, device: str) -> tuple[list[float], list[float]]:
    """Seconds of every phase, and megabytes after it; every phase brings two new classes, d integers each."""
    learner = create_learner(nn.Identity(), method="acil", buffer_size=dim, gamma=1.0, num_features=FEATURES).to(device)
    generator = torch.Generator().manual_seed(0)
    spent, memory = [], []
    for phase in track(range(phases), console=Console(stderr=True)):
        features = torch.randn(rows, FEATURES, generator=generator)
        labels = 2 * phase + torch.randint(0, 2, (rows,), generator=generator)
        spent.append(once(lambda: learner.learn_features(features, labels)))  # noqa: B023 - called at once
        memory.append(resident_memory() / MEGABYTE)
    return spent, memory


def draw(spent: list[float], memory: list[float], rows: int, path: Path) -> None:
    """Two panels over the phases: seconds, and megabytes beside those of the samples seen."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    phases = range(1, len(spent) + 1)
    figure, (times, sizes) = plt.subplots(2, 1, sharex=True, figsize=(7, 5), layout="constrained")
    times.plot(phases, spent, ".", color="#0072b2", markersize=4)
    times.set(ylabel="seconds to learn a phase", ylim=(0, 1.5 * sorted(spent)[int(0.95 * len(spent))]))
    sizes.plot(phases, memory, color="#0072b2", label="the whole process")
    sizes.plot(
        phases,
        [memory[0] + 4 * FEATURES * rows * (phase - 1) / MEGABYTE for phase in phases],
        "--",
        color="#d55e00",
        label="if it kept the features seen",
    )
    sizes.set(ylabel="memory, MB", xlabel=f"phase ({rows:,} samples each)", ylim=(0, None))
    sizes.legend(frameon=False)
    for panel in (times, sizes):
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Parse the options, print the ratios, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phases", type=int, default=200)
    parser.add_argument("--rows", type=int, default=5_000, help="samples of a phase")
    parser.add_argument("--dim", type=int, default=2_048)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path())
    options = parser.parse_args()
    spent, memory = stream(options.phases, options.rows, options.dim, options.device)
    part = max(1, options.phases // 10)
    first, last = (sorted(some)[len(some) // 2] for some in (spent[1 : part + 1] or spent, spent[-part:]))
    console = Console()
    console.print(f"{options.phases * options.rows:,} samples in {sum(spent):.1f} s")
    console.print(f"median of the last tenth of phases over that of the first: {last / first:.2f}")
    console.print(f"memory after the last phase over that after a tenth: {memory[-1] / memory[part - 1]:.3f}")
    options.output.mkdir(parents=True, exist_ok=True)
    draw(spent, memory, options.rows, options.output / "growth.png")


if __name__ == "__main__":
    main()
