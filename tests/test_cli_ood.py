"""``acil ood`` on a tiny run: table, document, files, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from acil.cli import main

TINY = ("--classes", "8", "--train-per-class", "15", "--test-per-class", "6", "--epochs", "1", "--buffer-size", "64")
SCORES = ["MSP", "max logit", "energy", "ODIN", "leverage"]

pytestmark = pytest.mark.usefixtures("one_thread")


def acil(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    patch = pytest.MonkeyPatch()
    patch.setenv("ACIL_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    result = acil("run", "--phases", "2", *TINY, "--device", "cpu", "--output", folder)
    assert result.exit_code == 0, result.output
    return folder


def test_every_score_meets_every_source(finished: Path, tmp_path: Path) -> None:
    for place in range(5):
        Image.new("RGB", (20, 20), (40 * place, 0, 0)).save(tmp_path / f"{place}.png")
    sources = ("gaussian", "symbols", f"folder:{tmp_path}")
    result = acil("ood", finished, *(word for source in sources for word in ("--against", source)), "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    pairs = [(one["source"], one["score"]) for one in document["detections"]]
    assert pairs == [(source, score) for source in sources for score in SCORES]
    assert all(0 <= one[name] <= 1 for one in document["detections"] for name in ("fpr95", "auroc", "aupr_in"))
    assert document["known"]["images"] == 48
    summary = json.loads((finished / "summary.json").read_text())
    assert document["known"]["accuracy"] == pytest.approx(summary["last_accuracy"])
    with (finished / "ood" / "ood.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["source"], row["score"]) for row in rows] == pairs
    assert [float(row["auroc"]) for row in rows] == [one["auroc"] for one in document["detections"]]
    for name in ("histograms.png", "roc.png"):
        with Image.open(finished / "ood" / name) as picture:
            assert picture.width > 1_000
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 50


def test_the_table_holds_the_figures(finished: Path) -> None:
    result = acil("ood", finished, "--against", "blobs")
    assert result.exit_code == 0, result.output
    assert all(score in result.stdout for score in SCORES)
    assert "FPR95" in result.stdout


def test_a_run_without_moments_has_no_leverage(tmp_path: Path) -> None:
    folder = tmp_path / "recursive"
    assert acil("run", "--phases", "1", *TINY, "--head", "recursive", "--output", folder).exit_code == 0
    document = json.loads(acil("ood", folder, "--against", "gaussian", "--json").stdout)
    assert [one["score"] for one in document["detections"]] == SCORES[:-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--against", "gausian"), "no data set is called 'gausian'"), ((), "Missing option '--against'"),
     (("--against", "folder:/nowhere"), "is not a folder")],
)  # fmt: skip
def test_what_there_is_not_is_refused_in_a_line(finished: Path, arguments: tuple[str, ...], message: str) -> None:
    result = acil("ood", finished, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    result = acil("ood", tmp_path, "--against", "gaussian")
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
