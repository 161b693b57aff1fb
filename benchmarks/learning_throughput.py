"""Learning throughput: integer moments against the float64 recursion, and the kernels' own rates, in one run.

python benchmarks/learning_throughput.py [--dims 4096 8192] [--rows 4096]
"""

from __future__ import annotations

import argparse

import torch
from rich.console import Console
from rich.table import Table
from timing import seconds

from acil import ExactHead, RecursiveHead
from acil.head.integer_product import exact_kernel

CLASSES = 100


def naive_recursion(inverse: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The update of R as written in the paper, multiplied from left to right: d^3 per batch."""
    system = torch.linalg.inv(torch.eye(len(rows)).to(rows) + rows @ inverse @ rows.t())
    return inverse - inverse @ rows.t() @ system @ rows @ inverse


def compare(dim: int, rows: int, device: torch.device) -> Table:
    """One table: every way to learn ``rows`` samples at width ``dim``."""
    generator = torch.Generator().manual_seed(0)
    features = torch.relu(torch.randn(rows, dim, generator=generator)).to(device)
    labels = torch.randint(0, CLASSES, (rows,), generator=generator).to(device)
    exact, wide = ExactHead(dim).to(device), ExactHead(dim, bits=16).to(device)
    integers = torch.randint(-127, 128, (rows, dim), generator=generator, dtype=torch.int8).to(device)
    transposed = integers.t().contiguous()
    doubles = features.double()
    start = 10 * torch.eye(dim).to(doubles)
    warm_up = (
        device.type != "cpu"
    )  # a GPU's libraries take longer to load than to compute; on a CPU it would cost a minute
    results = {
        "ExactHead, 8 bits": seconds(lambda: exact.learn(features, labels), 5),
        "ExactHead, 8 bits, a phase of 4 batches": seconds(lambda: exact.learn_phase([(features, labels)] * 4), 2) / 4,
        "ExactHead, 16 bits": seconds(lambda: wide.learn(features, labels), 2),
        "RecursiveHead": seconds(lambda: RecursiveHead(dim).to(device).learn(features, labels), 1, warm_up),
        "recursion, left to right": seconds(lambda: naive_recursion(start, doubles), 1, warm_up),
        "int8 product alone, all d x d": seconds(lambda: exact_kernel(device)(transposed, integers), 5),
        "float64 product alone, all d x d": seconds(lambda: doubles.t() @ doubles, 1),
    }
    table = Table(title=f"d = {dim}, {rows} samples, {device}, {torch.get_num_threads()} threads")
    for heading in ("", "seconds", "samples/s", "slower than ExactHead"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, spent in results.items():
        ratio = spent / results["ExactHead, 8 bits"]
        table.add_row(name, f"{spent:.3g}", f"{rows / spent:,.0f}", f"{ratio:.2f} x")
    return table


def main() -> None:
    """Parse the options and print a table per width."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, nargs="+", default=[4096, 8192])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    for dim in options.dims:
        Console().print(compare(dim, options.rows, torch.device(options.device)))


if __name__ == "__main__":
    main()
