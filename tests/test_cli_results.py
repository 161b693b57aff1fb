"""The results folder: events are never lost, and every view is derived from them."""

import csv
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from acil.cli import console, metrics, tables
from acil.cli.metrics import PhaseRecord
from acil.cli.results import RunFolder
from acil.files import write_atomically

CONFIG = {"data": "glyphs", "phases": 2, "seed": 3}
VIEWS = {"phases.csv", "summary.json", "accuracy.png", "forgetting.png"}


def phase_event(phase: int, per_phase: int = 2, right: int = 7, tested: int = 10) -> dict[str, Any]:
    """The fields of a phase event, as after a phase of ``per_phase`` classes."""
    labels = range(per_phase * (phase + 1))
    return {
        "phase": phase,
        "classes": list(labels)[-per_phase:],
        "learning_seconds": 0.5 + phase,
        "evaluation_seconds": 0.25,
        "samples": 40,
        "gamma": 0.1,
        "clipped_share": 0.01,
        "digest": f"{phase:064x}",
        "correct": dict.fromkeys(labels, right - phase),
        "total": dict.fromkeys(labels, tested),
    }


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run of three phases that was never disturbed."""
    folder = RunFolder.create(tmp_path / "runs" / "one", CONFIG, "acil run --phases 2")
    folder.append("started", versions={"acil": "1.0"}, seed=3, device="cpu (x)", threads=2)
    folder.append("base_training", epochs=6, seconds=12.5, accuracy=0.9)
    for phase in range(3):
        folder.append("phase", **phase_event(phase))
    folder.append("finished", seconds=20.0)
    return folder


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No colours wherever the tests run."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The descriptors that were synced; the tests do not wait for the disk."""
    descriptors: list[int] = []
    monkeypatch.setattr(os, "fsync", descriptors.append)
    return descriptors


def test_every_record_and_file_is_synced(run: RunFolder, synced: list[int]) -> None:
    synced.clear()
    run.append("resumed")
    assert len(synced) == 1
    run.write_views()
    assert len(synced) == 1 + 2 * len(VIEWS)  # each view and, after its renaming, the folder


def test_what_was_created_can_be_opened(run: RunFolder) -> None:
    again = RunFolder.open(run.path)
    assert again.config == CONFIG
    assert again.command == "acil run --phases 2"
    assert again.events() == run.events()


def test_a_folder_that_holds_a_run_is_refused(run: RunFolder) -> None:
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    with pytest.raises(ValueError, match="already holds a run; use --resume or another folder"):
        RunFolder.create(run.path, {}, "other")
    assert {file.name: file.read_bytes() for file in run.path.iterdir()} == before


def test_a_folder_with_other_files_is_welcome(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    RunFolder.create(tmp_path, CONFIG, "acil run")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot make the folder"):
        RunFolder.create(tmp_path / "file" / "run", CONFIG, "acil run")


@pytest.mark.parametrize("config", [None, "", '{"data": ', "[1]", "\x00\x00"])
def test_a_missing_or_damaged_config_is_refused(run: RunFolder, config: str | None) -> None:
    (run.path / "config.json").unlink()
    if config is not None:
        (run.path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=r"config\.json"):
        RunFolder.open(run.path)


def test_a_run_can_go_on_without_its_command(run: RunFolder) -> None:
    (run.path / "command.txt").unlink()
    assert RunFolder.open(run.path).summary()["command"] is None


def test_cut_at_every_byte_no_complete_record_is_lost(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG, "acil run")
    folder.append("started", seed=3)
    folder.append("phase", **phase_event(0))
    folder.append("finished", seconds=1.5)
    content = (folder.path / "events.jsonl").read_bytes()
    for cut in range(len(content) + 1):
        check_cut(folder, content, cut)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RunFolder.create(tmp_path_factory.mktemp("scratch"), CONFIG, "acil run")


NAMES = st.text(min_size=1).filter(lambda name: name not in ("event", "time", "self"))


@given(records=st.lists(st.dictionaries(NAMES, st.text()), min_size=1), share=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_whatever_was_recorded_no_complete_record_is_lost(
    records: list[dict[str, str]], share: float, scratch: RunFolder
) -> None:
    (scratch.path / "events.jsonl").unlink(missing_ok=True)
    for fields in records:
        scratch.append("note", **fields)
    content = (scratch.path / "events.jsonl").read_bytes()
    read = zip(scratch.events(), records, strict=True)
    assert [{name: event[name] for name in fields} for event, fields in read] == records
    check_cut(scratch, content, round(share * len(content)))


def check_cut(folder: RunFolder, content: bytes, cut: int) -> None:
    """Cut events.jsonl after ``cut`` bytes: complete lines stay, and the next append heals the file."""
    file = folder.path / "events.jsonl"
    file.write_bytes(content[:cut])
    complete = [json.loads(line) for line in content.split(b"\n")[: content[:cut].count(b"\n")]]
    assert folder.events() == complete
    folder.append("resumed")
    *kept, last = map(json.loads, file.read_bytes().splitlines())
    assert kept == complete
    assert last["event"] == "resumed"


@pytest.mark.parametrize("damage", [b"{not json}", b"[]", b'{"no": "event"}', b"", b"\xff\xfe"])
def test_a_damaged_line_is_named(run: RunFolder, damage: bytes) -> None:
    file = run.path / "events.jsonl"
    lines = file.read_bytes().split(b"\n")
    lines[1] = damage
    file.write_bytes(b"\n".join(lines))
    with pytest.raises(ValueError, match="line 2 is damaged"):
        run.events()


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_what_is_no_json_is_refused_and_nothing_is_written(run: RunFolder, value: object) -> None:
    before = (run.path / "events.jsonl").read_bytes()
    with pytest.raises(ValueError, match="cannot be recorded"):
        run.append("note", value=value)
    assert (run.path / "events.jsonl").read_bytes() == before


@pytest.fixture
def full_disk() -> Iterator[Any]:
    """A function that lets no file grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("room", [0, 1, 20])
def test_a_full_disk_loses_no_record(run: RunFolder, full_disk: Any, room: int) -> None:
    before = run.events()
    summary = (run.path / "config.json").read_bytes()
    limit = resource.RLIM_INFINITY
    full_disk((run.path / "events.jsonl").stat().st_size + room)
    with pytest.raises(ValueError, match=r"cannot write .*events\.jsonl"):
        run.append("resumed")
    full_disk(10)
    with pytest.raises(ValueError, match=r"cannot write .*config\.json"):
        write_atomically(run.path / "config.json", b"x" * 100)
    full_disk(limit)
    assert run.events() == before
    assert (run.path / "config.json").read_bytes() == summary
    assert not list(run.path.glob(".*"))
    run.append("resumed")
    assert run.events()[:-1] == before


def test_processes_that_append_at_once_do_not_mix(run: RunFolder) -> None:
    code = "import sys; from acil.cli.results import RunFolder as R; f = R.open(sys.argv[1]); " + (
        "[f.append('note', text=sys.argv[2] * 500) for _ in range(40)]"
    )
    before = len(run.events())
    processes = [subprocess.Popen([sys.executable, "-c", code, str(run.path), name]) for name in "ab"]
    assert [process.wait(60) for process in processes] == [0, 0]
    notes = [event["text"] for event in run.events()[before:]]
    assert sorted(notes) == ["a" * 500] * 40 + ["b" * 500] * 40


def test_of_a_phase_recorded_twice_the_later_record_counts(run: RunFolder) -> None:
    run.append("resumed")
    run.append("phase", **phase_event(1, right=9))
    assert [record.phase for record in run.phases()] == [0, 1, 2]
    assert run.phases()[1].accuracy == pytest.approx(0.8)
    assert run.summary()["times_resumed"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"phase": 5},
        {"digest": ...},
        {"classes": 3},
        {"correct": {"0": 11}, "total": {"0": 10}},
        {"correct": {}},
        {"total": None},
    ],
)
def test_a_phase_that_contradicts_itself_is_refused(run: RunFolder, change: dict[str, Any]) -> None:
    fields = {name: value for name, value in {**phase_event(3), **change}.items() if value is not ...}
    run.append("phase", **fields)
    with pytest.raises(ValueError, match=r"events\.jsonl.*phase"):
        run.phases()


def test_views_say_what_the_events_say(run: RunFolder) -> None:
    run.write_views()
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary == run.summary()
    assert summary["config"] == CONFIG
    assert (summary["seed"], summary["device"], summary["versions"]) == (3, "cpu (x)", {"acil": "1.0"})
    assert summary["command"] == "acil run --phases 2"
    assert summary["average_incremental_accuracy"] == pytest.approx(0.6)
    assert summary["last_accuracy"] == pytest.approx(0.5)
    assert summary["forgetting"] == pytest.approx((0.2 * 2 + 0.1 * 2) / 4)
    assert summary["learning_seconds"] == 4.5
    assert summary["digest"] == f"{2:064x}"
    rows = list(csv.DictReader(io.StringIO((run.path / "phases.csv").read_text())))
    assert [int(row["classes_seen"]) for row in rows] == [2, 4, 6]
    for row, entry in zip(rows, summary["phases"], strict=True):
        assert {name: str(entry[name]) for name in row} == row


def test_views_are_the_same_however_often_they_are_written(run: RunFolder) -> None:
    run.write_views()
    before = {name: (run.path / name).read_bytes() for name in VIEWS}
    (run.path / "summary.json").write_text("spoiled")
    (run.path / "accuracy.png").unlink()
    (run.path / ".phases.csv.tmp").write_text("left behind by a killed process")
    RunFolder.open(run.path).write_views()
    assert {name: (run.path / name).read_bytes() for name in VIEWS} == before
    assert {file.name for file in run.path.iterdir()} == VIEWS | {
        "config.json",
        "command.txt",
        "events.jsonl",
    }


def test_views_need_a_phase(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no phase yet"):
        RunFolder.create(tmp_path, CONFIG, "acil run").write_views()


@st.composite
def streams(draw: st.DrawFn) -> list[PhaseRecord]:
    """Phases of new and repeated classes, each class with any number of test samples above 0."""
    phases = draw(st.integers(1, 6))
    tested = {label: draw(st.integers(1, 9)) for label in range(3 * phases)}
    records: list[PhaseRecord] = []
    seen: set[int] = set()
    for phase in range(phases):
        repeated = draw(st.sets(st.sampled_from(sorted(seen)))) if seen else set()
        classes = {3 * phase + number for number in range(draw(st.integers(1, 3)))} | repeated
        seen |= classes
        correct = {label: draw(st.integers(0, tested[label])) for label in sorted(seen)}
        records.append(
            PhaseRecord(
                phase,
                tuple(classes),
                10,
                1.0,
                1.0,
                0.1,
                None,
                None,
                correct,
                {label: tested[label] for label in seen},
            )
        )
    return records


@given(records=streams())
@settings(max_examples=100, deadline=None)
def test_metrics_agree_with_the_formulas(records: list[PhaseRecord]) -> None:
    phases, labels = len(records), sorted(records[-1].total)
    right, tested = np.full((2, phases, len(labels)), np.nan)
    for record in records:
        columns = [labels.index(label) for label in record.total]
        right[record.phase, columns] = list(map(record.correct.get, record.total))
        tested[record.phase, columns] = list(record.total.values())
    accuracy = np.nansum(right, axis=1) / np.nansum(tested, axis=1)
    np.testing.assert_allclose(metrics.accuracies(records), accuracy)
    np.testing.assert_allclose(metrics.average_incremental_accuracy(records), accuracy.mean())
    np.testing.assert_allclose(metrics.running_averages(records), np.cumsum(accuracy) / np.arange(1, phases + 1))
    assert metrics.last_accuracy(records) == accuracy[-1]
    assert metrics.classes_seen(records) == (~np.isnan(right)).sum(axis=1).tolist()
    matrix = metrics.phase_matrix(records)
    for row in range(phases):
        columns = [[labels.index(label) for label in record.classes] for record in records[: row + 1]]
        expected = [right[row, own].sum() / tested[row, own].sum() for own in columns]
        np.testing.assert_allclose(matrix[row], expected)
    if phases == 1:
        assert metrics.forgetting(records) is None
    else:
        shares = (right / tested)[:, ~np.isnan(right[-2])]
        np.testing.assert_allclose(
            metrics.forgetting(records), (np.nanmax(shares[:-1], axis=0) - shares[-1]).mean(), atol=1e-12
        )


def test_classes_without_test_samples_are_left_out() -> None:
    record = PhaseRecord(0, (0, 1), 10, 1.0, 1.0, 0.1, None, None, {}, {})
    assert record.accuracy == 0
    assert np.isnan(metrics.phase_matrix([record])[0][0])
    assert metrics.forgetting([record, PhaseRecord(1, (2,), 10, 1.0, 1.0, 0.1, None, None, {2: 1}, {2: 2})]) is None


def test_the_table_prints_what_the_summary_holds(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    console.stdout().print(tables.summary_view(run))
    printed, summary = capsys.readouterr().out, run.summary()
    assert "\x1b" not in printed
    for row in summary["phases"]:
        assert f"{100 * row['accuracy']:.2f} %" in printed
    for name in ("average_incremental_accuracy", "last_accuracy", "forgetting"):
        assert f"{100 * summary[name]:.2f} %" in printed
    assert str(run.path) in printed.replace("\n", "")
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.parametrize("phases", [1, 2, 11, 12, 13, 26, 51, 101, 1001])
def test_long_tables_show_first_last_and_round_phases(phases: int) -> None:
    shown = tables.shown_phases(phases)
    assert len(shown) <= tables.MOST_ROWS
    assert (shown[0], shown[-1]) == (0, phases - 1)
    assert phases > tables.MOST_ROWS or shown == list(range(phases))
    assert len(set(np.diff(shown))) <= 2


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console.stdout().print(tables.facts_table({"classes": "[bold] :smile: [/nothing]"}))
    assert "[bold] :smile: [/nothing]" in capsys.readouterr().out


def test_progress_off_a_terminal_is_one_plain_line_per_task(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress() as bar:
        task = bar.add_task("phases [of] photos", total=3)
        for _ in range(3):
            bar.update(task, advance=1)
    captured = capsys.readouterr()
    assert captured.err == "phases [of] photos: 3 of 3 in 0:00:00\n"
    assert captured.out == ""


def test_progress_of_work_that_fails_leaves_the_line_to_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="full"), console.progress() as bar:
        bar.add_task("phases", total=3)
        raise ValueError("full")
    assert capsys.readouterr().err == ""


@click.group(cls=console.OneLineErrors)
def commands() -> None:
    pass


@commands.command()
@click.option("--error", type=click.Choice(["value", "os", "memory", "gpu memory"]))
def work(error: str) -> None:
    if error == "value":
        raise ValueError("expected a number,\n  got none")
    if error == "memory":
        raise MemoryError
    if error == "gpu memory":
        raise RuntimeError("CUDA out of memory. Tried to allocate 1024 GiB.\nSee the documentation")
    raise PermissionError(13, "Permission denied", "secret.npz")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["work", "--error", "value"], "expected a number, got none"),
        (["work", "--error", "os"], "secret.npz"),
        (["work", "--error", "memory"], "out of memory; use a smaller --buffer-size"),
        (["work", "--error", "gpu memory"], "Tried to allocate 1024 GiB"),
        (["work", "--error", "other"], "'value', 'os'"),
        (["work", "--eror", "value"], "--error"),
        (["--bad"], "--bad"),
        (["play"], "play"),
    ],
)
def test_errors_are_one_line_and_status_2(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert told in result.stderr
    assert result.stdout == ""


def test_help_is_still_help() -> None:
    assert "Usage:" in CliRunner().invoke(commands, ["--help"]).output
    assert "Usage:" in CliRunner().invoke(commands, []).output


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = (
        "import sys; import acil; before = set(sys.modules)\n"
        "import acil.cli.console, acil.cli.metrics, acil.cli.pictures, acil.cli.results, acil.cli.tables\n"
        "heavy = {'torch', 'avalanche', 'matplotlib', 'rich', 'numpy'}\n"
        "print(heavy & (set(sys.modules) - before))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert result.stdout == "set()\n"
