"""One sample per call: the recursion against the memory bandwidth.

    python benchmarks/streaming.py [--dims 2048 4096]

The floor is the time to read and write R, d x d float64, once. ``RecursiveHead`` gathers small updates, so a sample
reads R once and hardly ever writes it.
"""

from __future__ import annotations

import argparse

import torch
from rich.console import Console
from rich.table import Table
from timing import once, seconds

from acil import RecursiveHead

CLASSES = 100


def stream(dim: int, samples: int, device: torch.device) -> tuple[str, ...]:
    """One row: microseconds per sample, and the floor."""
    generator = torch.Generator().manual_seed(0)
    features = torch.relu(torch.randn(2 * samples, dim, generator=generator)).to(device)
    labels = torch.randint(0, CLASSES, (2 * samples,), generator=generator).to(device)
    head = RecursiveHead(dim).to(device)
    head.learn(features[:samples], labels[:samples])

    def one_by_one() -> None:
        for index in range(samples, 2 * samples):
            head.learn(features[index : index + 1], labels[index : index + 1])

    spent = once(one_by_one) / samples
    matrix = head.inverse
    other = torch.empty_like(matrix)
    floor = seconds(lambda: other.copy_(matrix), 10)
    read = seconds(lambda: torch.mv(matrix, matrix[0]), 10)
    figures = f"{1e6 * spent:.0f}", f"{1e6 * floor:.0f}", f"{spent / floor:.2f}", f"{1e6 * read:.0f}"
    return str(dim), *figures


def main() -> None:
    """Parse the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, nargs="+", default=[2048, 4096])
    parser.add_argument("--samples", type=int, default=512, help="in calls of one")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    table = Table(title=f"{device}, {torch.get_num_threads()} threads")
    for heading in ("d", "us per sample", "floor: read and write R, us", "times the floor", "product with R alone, us"):
        table.add_column(heading, justify="right")
    for dim in options.dims:
        table.add_row(*stream(dim, options.samples, device))
    Console().print(table)


if __name__ == "__main__":
    main()
