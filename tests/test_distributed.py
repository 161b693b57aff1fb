"""Runs on several ranks that torchrun starts: equal to a single process, and no worse when a rank is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from torch.distributed import HashStore

from acil.cli import main
from acil.cli.ranks import follow, prepare
from acil.cli.results import RunFolder
from acil.cli.settings import RunSettings
from acil.distributed import Ranks

GLYPHS = ["--phases", "5", "--classes", "20", "--train-per-class", "60", "--test-per-class", "10", "--epochs", "2",
          "--buffer-size", "256"]  # fmt: skip


def start(ranks: int, *arguments: object, **environment: str | None) -> subprocess.Popen[str]:
    """The command on so many ranks; an environment variable of None is not set."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m"] if ranks > 1 else []
    merged = {**os.environ, **environment}
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "acil.cli", *map(str, arguments)],
        env={name: value for name, value in merged.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(ranks: int, *arguments: object, **environment: str | None) -> tuple[str, str]:
    process = start(ranks, *arguments, **environment)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output, errors


def result_of(folder: Path) -> list[dict[str, Any]]:
    """Everything a run found out, digests and counts by class included, without the seconds that it took."""
    return [
        {name: value for name, value in vars(record).items() if not name.endswith("seconds")}
        for record in RunFolder.open(folder).phases()
    ]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options for features of 9 classes in 9 phases, of which two have a single sample: fewer than there are ranks."""
    labels = np.concatenate([np.arange(9), np.repeat(np.arange(2, 9), 31)])
    features = np.random.default_rng(0).normal(size=(len(labels), 12)) + 2 * np.eye(12)[labels]
    file = tmp_path_factory.mktemp("data") / "rows.npz"
    np.savez(file, train_features=features, train_labels=labels, test_features=features, test_labels=labels)
    return ["--data", f"features:{file}", "--base-classes", "0", "--phases", "9", "--buffer-size", "64"]


@pytest.fixture(scope="module")
def alone(rows: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a single process."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    assert CliRunner().invoke(main, ["run", *rows, "--output", str(folder)]).exit_code == 0
    return folder


def test_two_ranks_end_with_the_bits_of_one_process(rows: list[str], alone: Path, tmp_path: Path) -> None:
    output, errors = finish(2, "run", *rows, "--output", tmp_path / "run")
    assert result_of(tmp_path / "run") == result_of(alone)
    assert RunFolder.open(tmp_path / "run").summary()["ranks"] == 2
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in alone.iterdir()}
    assert output.count("average incremental accuracy") == 1
    assert errors.count("phases: 9 of 9") == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["acil", "gkeal"])
def test_every_buffer_layer_is_calibrated_as_by_one_process(method: str, rows: list[str], tmp_path: Path) -> None:
    for ranks in (1, 4):
        finish(ranks, "run", *rows, "--method", method, "--output", tmp_path / str(ranks))
    assert result_of(tmp_path / "4") == result_of(tmp_path / "1")


EXCHANGE = """
import torch
from acil import ExactHead
from acil.distributed import SUMMED_ROWS, Ranks

ranks = Ranks.of_torchrun()
assert ranks.from_first(f"of rank {ranks.rank}") == "of rank 0"
ranks.connect()
dim = SUMMED_ROWS + 100
features = torch.randn(90, dim, generator=torch.Generator().manual_seed(0))
labels = torch.arange(90) * 7 % 40  # no rank sees all classes
head = ExactHead(dim)
head.calibrate(features[:50])

def learned(rows):
    other = head.fresh()
    other.learn(features[rows], labels[rows])
    return other

joint, some, none = learned(slice(0, 90)), learned(slice(0, 5)), head.fresh()
mine, one = learned(list(ranks.share(90))), learned(slice(0, 5 if ranks.rank == 1 else 0))
for expected, share in ((joint, mine), (some, one), (none, head.fresh())):
    digest, clipped = expected.digest(), expected.quantizer.clipped.item()
    ranks.add_up(share)
    assert share.digest() == digest
    assert share.quantizer.clipped.item() == clipped

for count in (1, 2, 3, 4, 90):
    mine = list(ranks.share(count))
    rows, truth = ranks.gather([features[mine], labels[mine]] if mine else [])
    assert torch.equal(rows, features[:count]) and torch.equal(truth, labels[:count])

ranks.copy_first(joint if ranks.rank == 0 else none)
assert (joint if ranks.rank == 0 else none).digest() == joint.digest()
ranks.leave()
"""

SILENCE = """
import time
from datetime import timedelta
from acil.distributed import Ranks
from acil.errors import RankLostError

ranks = Ranks.of_torchrun()
ranks.connect(timeout=timedelta(seconds=2))
started = time.monotonic()
if ranks.rank == 0:
    try:
        ranks.gather([])
    except RankLostError as error:
        assert "did not answer" in str(error)
        ranks.from_first("given up")
    assert time.monotonic() - started < 30
ranks.from_first()
"""


@pytest.mark.parametrize("code", [EXCHANGE, pytest.param(SILENCE, marks=pytest.mark.slow)], ids=["exchange", "silence"])
def test_what_passes_between_ranks(code: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(code)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", str(script)]
    done = subprocess.run(launcher, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def two_ranks() -> tuple[Ranks, Ranks]:
    store = HashStore()
    first, second = (Ranks(rank, 2, local_rank=rank, local_size=2, machine=0, store=store) for rank in range(2))
    return first, second


@pytest.mark.parametrize(("option", "value"), [("head", "recursive"), ("method", "ds-al")])
def test_a_head_without_an_exact_sum_is_refused(option: str, value: str, alone: Path) -> None:
    settings = RunSettings.from_config({**RunFolder.open(alone).config, option: value})
    with pytest.raises(ValueError, match=f"--{option} {value} cannot be shared by 2 ranks"):
        prepare(settings, two_ranks()[0])


def test_an_error_of_one_rank_is_one_line_that_names_it(
    alone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setenv("RANK", "1")
    settings = RunSettings.from_config(RunFolder.open(alone).config)
    first, second = two_ranks()
    prepare(settings, first)
    monkeypatch.setattr(RunSettings, "load_data", missing)
    with pytest.raises(SystemExit) as end:
        follow(second)
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == "Error: rank 1: the data is not on this machine"


def missing(*_: object, **__: object) -> None:
    raise ValueError("the data is not on\nthis machine")


def test_variables_that_torchrun_did_not_set_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"LOCAL_RANK.*torchrun"):
        Ranks.of_torchrun()


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a single process that trains its backbone, with as many threads as it likes."""
    folder = tmp_path_factory.mktemp("glyphs") / "alone"
    finish(1, "run", *GLYPHS, "--output", folder, OMP_NUM_THREADS=None)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_base_training_is_that_of_a_single_process(ranks: int, glyphs: Path, tmp_path: Path) -> None:
    finish(ranks, "run", *GLYPHS, "--output", tmp_path / "run", OMP_NUM_THREADS=None)
    assert result_of(tmp_path / "run") == result_of(glyphs)
    summaries = [RunFolder.open(folder).summary() for folder in (tmp_path / "run", glyphs)]
    for figure in ("threads", "last_accuracy", "average_incremental_accuracy", "forgetting", "digest"):
        assert summaries[0][figure] == summaries[1][figure]
    assert summaries[0]["base_training"]["accuracy"] == summaries[1]["base_training"]["accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "killed", "ranks"),
    [
        ('"started"', 0, 2),
        ('"started"', 1, 1),
        ('"base_training"', 0, 1),
        ('"base_training"', 1, 2),
        ('"phase": 1,', 0, 4),
        ('"phase": 1,', 1, 1),
    ],
)
def test_a_lost_rank_ends_the_run_and_it_goes_on_with_any_number_of_ranks(
    moment: str, killed: int, ranks: int, glyphs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    launcher = start(2, "run", *GLYPHS, "--output", folder, OMP_NUM_THREADS=None)
    wait_for(moment, folder / "events.jsonl", launcher)
    os.kill(rank_processes(launcher.pid)[killed], signal.SIGKILL)
    _, errors = launcher.communicate(timeout=20)  # torchrun would wait for 30 seconds, and then kill
    assert launcher.returncode != 0
    if killed:
        assert f"go on with: torchrun --nproc-per-node 2 -m acil.cli run --resume {folder}" in errors
    finish(ranks, "run", "--resume", folder, OMP_NUM_THREADS=None)
    assert result_of(folder) == result_of(glyphs)


def wait_for(text: str, file: Path, process: subprocess.Popen[str]) -> None:
    while not file.exists() or text not in file.read_text():
        assert process.poll() is None
        time.sleep(0.01)


def rank_processes(launcher: int) -> dict[int, int]:
    """The process of each rank that a torchrun has started, as Linux tells."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    environments = {int(child): Path(f"/proc/{child}/environ").read_bytes().split(b"\0") for child in children}
    return {
        int(variable.removeprefix(b"RANK=")): child
        for child, environment in environments.items()
        for variable in environment
        if variable.startswith(b"RANK=")
    }
