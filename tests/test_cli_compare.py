"""``acil compare`` on a few glyphs: equal to ``acil run``, resumable, failures in the table, refusals."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from statistics import fmean

import pytest
from click.testing import CliRunner, Result
from matplotlib.image import imread

from acil.cli import main
from acil.cli.comparison import ComparisonFolder, Contest
from acil.cli.comparison_views import exactness, rows, write_views

DATA = ("--classes", 6, "--train-per-class", 12, "--test-per-class", 6, "--epochs", 1, "--buffer-size", 64)
SETTINGS = (*DATA, "--base-classes", 2, "--gamma", 1)

# Base training ends with other last bits where it has another number of threads.
pytestmark = pytest.mark.usefixtures("one_thread")


def acil(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refusal(*arguments: object) -> str:
    result = acil("compare", *arguments)
    assert result.exit_code == 2, result.output
    assert not isinstance(result.exception, Exception)
    return result.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("comparison") / "compared"
    methods = "acil,joint,ncm,naive,replay-head"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        result = acil("compare", "--methods", methods, "--phases", "2,4", *SETTINGS, "--jobs", 2, "--output", path)
    assert result.exit_code == 0, result.output
    assert "ACIL's digest equals joint training's after each of 8 phases" in result.output
    return path


def test_acil_is_what_acil_run_gives(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = acil("run", "--method", "acil", "--phases", 4, *SETTINGS, "--output", run)
    assert result.exit_code == 0, result.output
    alone = json.loads((run / "summary.json").read_text())
    outcome = ComparisonFolder.open(folder).outcome(Contest("acil", 4, 0))
    assert outcome is not None
    assert [record.accuracy for record in outcome.records] == [phase["accuracy"] for phase in alone["phases"]]
    assert [record.digest for record in outcome.records] == [phase["digest"] for phase in alone["phases"]]


def test_the_table_holds_what_the_phases_say(folder: Path) -> None:
    with (folder / "comparison.csv").open(newline="") as lines:
        table = {(row["method"], int(row["phases"])): row for row in csv.DictReader(lines)}
    assert set(table) == {(m, p) for m in ("acil", "joint", "ncm", "naive", "replay-head") for p in (2, 4)}
    for (method, phases), row in table.items():
        content = json.loads((folder / "contests" / f"{method}-{phases}-0.json").read_text())
        accuracies = [sum(p["correct"].values()) / sum(p["total"].values()) for p in content["phases"]]
        assert float(row["average"]) == pytest.approx(fmean(accuracies))
        assert float(row["last"]) == pytest.approx(accuracies[-1])
        assert row["keeps_data"] == str(method in ("joint", "replay-head"))
    assert table["joint", 2]["last"] == table["joint", 4]["last"] == table["acil", 4]["last"]


def test_the_page_and_the_picture_are_there(folder: Path) -> None:
    page = (folder / "comparison.md").read_text()
    assert "| 4 | ACIL |" in page
    assert "gradient methods: 1 epoch" in page
    assert imread(folder / "comparison.png").shape[1] == 1800


def test_resuming_fights_what_is_missing_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    lost = again / "contests" / "ncm-4-0.json"
    before = json.loads(lost.read_text())
    lost.unlink()
    untouched = {file: file.stat().st_mtime_ns for file in (again / "contests").iterdir()}
    result = acil("compare", "--resume", again)
    assert result.exit_code == 0, result.output
    assert all(file.stat().st_mtime_ns == time for file, time in untouched.items())
    after = json.loads(lost.read_text())
    assert [phase["correct"] for phase in after["phases"]] == [phase["correct"] for phase in before["phases"]]


def test_a_comparison_goes_on_without_its_features_and_on_another_device(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    (moved / "features-0.safetensors").unlink()  # large, so that they are left behind
    config = json.loads((moved / "comparison.json").read_text())
    config["experiment"]["device"] = "cuda:7"
    (moved / "comparison.json").write_text(json.dumps(config))
    file = moved / "contests" / "acil-4-0.json"
    before = json.loads(file.read_text())
    file.unlink()
    other = moved / "contests" / "acil-2-0.json"
    content = json.loads(other.read_text())
    content["environment"]["device"] = "cuda:7 (a GPU)"
    other.write_text(json.dumps(content))
    result = acil("compare", "--resume", moved, "--device", "cpu")
    assert result.exit_code == 0, result.output
    after = json.loads(file.read_text())
    assert [phase["digest"] for phase in after["phases"]] == [phase["digest"] for phase in before["phases"]]
    page = (moved / "comparison.md").read_text()
    assert "cuda:7 (a GPU), " in page
    assert "; 1 contest\n" in page  # the rest ran on the CPU, some of them perhaps with other numbers of threads
    assert "seconds are those of cpu (" in page
    opened = ComparisonFolder.open(moved)
    elsewhere = next(row for row in rows(opened) if (row.method, row.phases) == ("acil", 2))
    assert len(elsewhere.records) == 1
    assert elsewhere.timed == []  # seconds of another device are not told as this one's
    assert exactness(opened) == [
        "ACIL's digest equals joint training's after each of 5 phases",
        "digests do not compare: ACIL and joint training ran on different machines in 1 cases",
    ]
    here = opened.outcome(Contest("acil", 4, 0))
    assert here is not None
    assert here.extraction_seconds == opened.base_facts(0)["extraction_seconds"] > 0


def test_a_lost_network_is_named_and_not_trained_again(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    for name in ("features-0.safetensors", "network-0.pt", "contests/acil-4-0.json"):
        (moved / name).unlink()
    assert "network-0.pt is gone" in refusal("--resume", moved)


def test_resuming_on_a_device_that_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    config = json.loads((moved / "comparison.json").read_text())
    config["experiment"]["device"] = "cuda:7"
    (moved / "comparison.json").write_text(json.dumps(config))
    assert "device 'cuda:7' cannot be used here" in refusal("--resume", moved)


@pytest.mark.parametrize(("name", "content"), [("comparison.json", None), ("base-0.json", ""), ("base-0.json", "7")])
def test_a_damaged_file_of_a_comparison_is_named(folder: Path, tmp_path: Path, name: str, content: str | None) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    if content is None:
        content = json.dumps({**json.loads((moved / name).read_text()), "experiment": {}})
    (moved / name).write_text(content)
    told = refusal("--resume", moved)
    assert name in told
    assert "is damaged" in told


def test_a_method_that_fails_is_a_row_that_says_so(folder: Path, tmp_path: Path) -> None:
    failing = tmp_path / "failing"
    shutil.copytree(folder, failing)
    (failing / "contests" / "naive-2-0.json").unlink()
    opened = ComparisonFolder.open(failing)
    opened.write_failure(Contest("naive", 2, 0), "ValueError: there is no network")
    write_views(opened)
    row = next(row for row in rows(opened) if (row.method, row.phases) == ("naive", 2))
    assert row.error == "ValueError: there is no network"
    assert "naive failed in 2 phases: ValueError: there is no network" in (failing / "comparison.md").read_text()
    assert opened.missing() == [Contest("naive", 2, 0)]


def test_a_digest_that_differs_is_told(folder: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged"
    shutil.copytree(folder, forged)
    file = forged / "contests" / "joint-2-0.json"
    content = json.loads(file.read_text())
    content["phases"][1]["digest"] = "0" * 64
    file.write_text(json.dumps(content))
    assert exactness(ComparisonFolder.open(forged)) == [
        "ACIL's digest differs from joint training's after 1 of 8 phases"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "acil,icarl"), "icarl"),
        (("--phases", "5,many"), "whole numbers above 0"),
        (("--phases", "0"), "whole numbers above 0"),
        (("--phases", "3"), "do not divide"),
        (("--base-classes", "0", "--phases", "2"), "without a base phase"),
        (("--loss", "none-such", "--phases", "2"), "none-such"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_made(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    assert message in refusal(*SETTINGS, *arguments, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_are_not_overwritten_and_settings_not_changed(folder: Path, tmp_path: Path) -> None:
    assert "already holds a comparison" in refusal(*SETTINGS, "--phases", "2", "--output", folder)
    assert "leave out --seeds" in refusal("--resume", folder, "--seeds", 2)
    assert "holds no comparison" in refusal("--resume", tmp_path)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "comparison.json").write_text('{"methods": 3')
    assert "is damaged" in refusal("--resume", damaged)
