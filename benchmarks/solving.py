"""The solve: its share of the machine's float64 rate, and its memory.

    python benchmarks/solving.py [--dims 2048 4096 8192]

One Cholesky factorisation per change of the moments, d^3 / 3 operations in the memory of the matrix itself. Memory is
measured in a process of its own, in units of one d x d float64 matrix, the integer moments included.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import torch
from rich.console import Console
from rich.table import Table
from timing import float64_rate, once, resident_memory, seconds

from acil import ExactHead
from acil.head.cholesky import CholeskyFactor
from acil.head.ridge import choose_gamma, regularised, solve_ridge

CLASSES = 100


def learned_head(dim: int, device: torch.device) -> ExactHead:
    """A head that has learned a few thousand random samples."""
    generator = torch.Generator().manual_seed(0)
    head = ExactHead(dim, gamma=10.0).to(device)
    for _ in range(2):
        features = torch.relu(torch.randn(2_048, dim, generator=generator)).to(device)
        head.learn(features, torch.randint(0, CLASSES, (2_048,), generator=generator).to(device))
    return head


def time_solve(dim: int, device: torch.device, repeats: int) -> tuple[str, ...]:
    """One row: seconds of the factorisation, the whole solve and the automatic gamma, and the share of the rate."""
    rate = float64_rate(dim, device)
    head = learned_head(dim, device)
    scale = float(head.quantizer.scale)
    factorisation = min(_factorisation(head, scale) for _ in range(repeats))
    solve = seconds(lambda: solve_ridge(head.moments, scale, head.chosen_gamma), repeats, warm_up=False)
    choice = once(lambda: choose_gamma(head.moments, scale))
    share = dim**3 / 3 / factorisation / rate
    figures = f"{rate / 1e9:.0f}", f"{factorisation:.3f}", f"{100 * share:.0f} %", f"{solve:.3f}", f"{choice:.2f}"
    return str(dim), *figures


def _factorisation(head: ExactHead, scale: float) -> float:
    ridge = head.chosen_gamma / scale**2
    matrix = regularised(head.moments, ridge)
    return once(lambda: CholeskyFactor(matrix))


def peak_memory(dim: int) -> float:
    """Matrices of d x d float64 alive at the peak of moments and solve, from a fresh process."""
    shown = subprocess.run(
        [sys.executable, __file__, "--measure-memory", str(dim)], capture_output=True, text=True, check=True
    )
    return float(shown.stdout.split()[-1])


def measure_memory(dim: int) -> float:
    """As ``peak_memory``, for this process."""
    small = ExactHead(64, gamma=10.0)  # everything that is loaded once
    small.learn(torch.rand(256, 64), torch.arange(256) % 4)
    _ = small.weight
    before = resident_memory()
    head = ExactHead(dim, gamma=10.0)
    head.learn(torch.rand(64, dim), torch.arange(64) % 4)
    head.moments.autocorrelation += 1  # so that every page of the moments is in memory
    head.moments.autocorrelation.diagonal().add_(dim)
    _ = head.weight
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak - before) / (8 * dim**2)


def main() -> None:
    """Parse the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, nargs="+", default=[2048, 4096, 8192])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure-memory", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure_memory:
        print(measure_memory(options.measure_memory))
        return
    device = torch.device(options.device)
    table = Table(title=f"{device}, {torch.get_num_threads()} threads, {CLASSES} classes")
    headings = "d", "float64 Gflop/s", "Cholesky s", "share", "solve s", "auto gamma s", "peak d x d"
    for heading in headings:
        table.add_column(heading, justify="right")
    for dim in options.dims:
        memory = f"{peak_memory(dim):.2f}" if device.type == "cpu" else "-"
        table.add_row(*time_solve(dim, device, options.repeats), memory)
    Console().print(table)


if __name__ == "__main__":
    main()
