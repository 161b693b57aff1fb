"""The page of results, from the files that ``acil compare`` and ``buffer_sizes.py`` left.

    acil compare --data folder:tiny-imagenet-32 ... --output runs/tiny
    python benchmarks/buffer_sizes.py runs/tiny --output docs
    python benchmarks/results_page.py runs/tiny --output docs

Writes results.md, and the comparison's picture and table beside it. No figure on the page is typed by hand.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from buffer_sizes import METHODS
from buffer_sizes import Row as SizeRow
from buffer_sizes import read as read_sizes

from acil.cli import metrics
from acil.cli.comparison import ComparisonFolder
from acil.cli.comparison_views import (
    PICTURE,
    TABLE,
    Row,
    conditions,
    exactness,
    markdown_table,
    rows,
    spread,
    write_views,
)
from acil.cli.pictures import short_name
from acil.strategies.contenders import CONTENDERS

LIMITS = """\
## What the figures do not show

- How far larger backbones would carry: every method stands on the same small network.
- The best that gradient methods can do: they have one budget and one learning rate, stated above. The weight of EWC's
  penalty is the one setting that was searched (Tiny-ImageNet, one class order, 10 phases): 100 gives 21.7 %, 1,000
  24.0 % and 10,000 24.1 %. Without a bound on gradients EWC diverged, and in 25 phases classifiers on
  features fell to 3 to 6 %.
- Forgetting in the backbone: it is frozen for all methods but those marked "network".
- Seconds on a quiet machine: contests ran side by side on shared cores.
"""


def accuracy_table(found: Sequence[Row]) -> list[str]:
    """Average and last accuracy of each method, a column for each number of phases."""
    phases = sorted({row.phases for row in found})
    methods = list(dict.fromkeys(row.method for row in found))
    by_place = {(row.method, row.phases): row for row in found}
    lines = ["| method | " + " | ".join(f"{number} phases" for number in phases) + " | class orders |"]
    lines.append("| --- |" + " ---: |" * (len(phases) + 1))
    for method in methods:
        own = [by_place.get((method, number)) for number in phases]
        seeds = [len(row.records) for row in own if row is not None]
        cells = [_average_and_last(row) for row in own]
        orders = str(min(seeds)) if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)}"
        lines.append(f"| {CONTENDERS[method].title} | " + " | ".join(cells) + f" | {orders} |")
    return lines


def _average_and_last(row: Row | None) -> str:
    if row is None or not row.records:
        return "-"
    return f"{spread(row.values(metrics.average_incremental_accuracy))} / {spread(row.values(metrics.last_accuracy))}"


def time_lines(found: Sequence[Row]) -> list[str]:
    """What learning costs beside the extraction of features."""
    lines = []
    for row in found:
        if row.method == "acil" and row.timed:
            records = row.timed[0].records
            samples = sum(record.samples for record in records)
            features = row.timed[0].extraction_seconds * samples
            head = sum(record.learning_seconds for record in records) - features
            lines.append(
                f"- ACIL, {row.phases} phases: {features:.0f} s to extract the features of {samples:,} images, "
                f"{head:.0f} s for everything else, {len(records)} choices of gamma included"
            )
    return lines


def size_table(sizes: Sequence[SizeRow]) -> list[str]:
    """Accuracy by buffer size, 8 bits and automatic gamma."""
    dims = sorted({row.dim for row in sizes})
    lines = ["| method | " + " | ".join(map(str, dims)) + " |", "| --- |" + " ---: |" * len(dims)]
    for method in METHODS:
        found = {row.dim: row for row in sizes if row.method == method and row.bits == 8 and row.automatic}
        cells = [_size_cell(found.get(dim)) for dim in dims]
        lines.append(f"| {CONTENDERS[method].title} | " + " | ".join(cells) + " |")
    return lines


def _size_cell(row: SizeRow | None) -> str:
    return "-" if row is None else f"{100 * row.accuracy:.2f} ({row.seconds:.0f} s)"


def size_lines(sizes: Sequence[SizeRow]) -> list[str]:
    """What bits and the choice of gamma do, in sentences."""
    lines = []
    for method in METHODS:
        own = [row for row in sizes if row.method == method]
        wide = [row for row in own if row.bits == 16]
        narrow = [row for row in own if row.bits == 8 and row.automatic and wide and row.dim == wide[0].dim]
        decades = [row for row in own if not row.automatic]
        if wide and narrow and decades:
            best = max(decades, key=lambda row: row.accuracy)
            lines.append(
                f"- {CONTENDERS[method].title}: 8 bits {100 * narrow[0].accuracy:.2f} %, 16 bits "
                f"{100 * wide[0].accuracy:.2f} %; the best decade of gamma ({best.gamma:g}) gives "
                f"{100 * best.accuracy:.2f} %, the automatic choice was {narrow[0].gamma:.3g}"
            )
    return lines


def page(folders: Sequence[ComparisonFolder], sizes: Sequence[SizeRow]) -> str:
    """The whole page."""
    lines = ["# Results", ""]
    for place, folder in enumerate(folders):
        found = rows(folder)
        name = short_name(str(folder.comparison.experiment["data"]))
        backbone = folder.comparison.experiment["backbone"]
        lines += [
            f"## {name}, {backbone}: methods side by side",
            "",
            "Average accuracy over all phases / accuracy after the last, in %; mean and deviation over class orders,",
            "or the figure of the first order alone where there is no deviation:",
            "",
            *accuracy_table(found),
            "",
            *exactness(folder),
            "",
            f"![A curve for each method](results-{place + 1}.png)",
            "",
            *conditions(folder),
            "",
            "Time:",
            "",
            *time_lines(found),
            "",
            "<details><summary>Forgetting, seconds, memory</summary>",
            "",
            *markdown_table(found),
            "",
            "</details>",
            "",
            f"All figures: [results-{place + 1}.csv](results-{place + 1}.csv).",
            "",
        ]
    if sizes:
        lines += [
            "## Buffer size, gamma and bits",
            "",
            "Accuracy in % on all classes and seconds to learn and solve, gamma chosen automatically, by buffer size:",
            "",
            *size_table(sizes),
            "",
            "![Accuracy by buffer size and by gamma](buffer-sizes.png)",
            "",
            *size_lines(sizes),
            "",
        ]
    return "\n".join([*lines, LIMITS])


def main() -> None:
    """Parse the options and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparisons", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, default=Path("docs"))
    options = parser.parse_args()
    folders = [ComparisonFolder.open(path) for path in options.comparisons]
    for place, folder in enumerate(folders):
        write_views(folder)
        shutil.copyfile(folder.path / PICTURE, options.output / f"results-{place + 1}.png")
        shutil.copyfile(folder.path / TABLE, options.output / f"results-{place + 1}.csv")
    (options.output / "results.md").write_text(page(folders, read_sizes(options.output / "buffer-sizes.csv")))


if __name__ == "__main__":
    main()
