"""Ctrl-C, failing memory and a second writer leave everything whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from acil import AnalyticHead, ExactHead, RecursiveHead
from acil.files import write_atomically
from acil.head import integer_product
from acil.transaction import uninterrupted

pytestmark = pytest.mark.usefixtures("one_thread")

DIM = 2_200  # three stripes of the autocorrelation


def samples(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, DIM, generator=generator), torch.randint(0, 4, (n,), generator=generator)


def state(head: AnalyticHead) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in head.state_dict().items()}


@pytest.mark.parametrize("learn", ["learn", "learn_phase"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("product", [1, 2, 3, 4])
def test_moments_that_break_off_in_a_product_are_as_before(
    monkeypatch: pytest.MonkeyPatch, learn: str, error: type[BaseException], product: int
) -> None:
    head = ExactHead(DIM)
    head.learn(*samples(20, 0))
    before = state(head)
    kernel = integer_product.exact_kernel(torch.device("cpu"))
    calls = 0

    def breaking(left: Tensor, right: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == product:
            raise error
        return kernel(left, right)

    monkeypatch.setattr(integer_product, "exact_kernel", lambda device: breaking)
    features, labels = samples(30, 1)
    with pytest.raises(error):
        head.learn(features, labels + 2) if learn == "learn" else head.learn_phase([(features, labels + 2)])
    after = state(head)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_recursion_that_breaks_off_between_parts_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    head = RecursiveHead(64, gamma=1.0)
    features, labels = torch.rand(2_500, 64), torch.arange(2_500) % 3
    head.learn(features[:10], labels[:10])
    before = state(head)
    update, calls = head._learn_rows, 0

    def breaking(rows: Tensor, targets: Tensor) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        update(rows, targets)

    monkeypatch.setattr(head, "_learn_rows", breaking)
    with pytest.raises(KeyboardInterrupt):
        head.learn(features, labels)
    assert all(torch.equal(tensor, state(head)[name]) for name, tensor in before.items())


def test_ctrl_c_waits_until_a_change_is_done() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        done.append("the change")
    assert done == ["the change"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_failing_change_keeps_its_own_error() -> None:
    with pytest.raises(ZeroDivisionError), uninterrupted():
        _ = 1 / 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


WRITER = """
import sys
from pathlib import Path
from acil.files import write_atomically
for _ in range(30):
    write_atomically(Path(sys.argv[1]), sys.argv[2].encode() * 300_000)
"""


def test_two_writers_leave_one_of_their_files(tmp_path: Path) -> None:
    file = tmp_path / "shared"
    write_atomically(file, b"start")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(file), letter]) for letter in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        content = file.read_bytes()
        seen.add((content[:5] == b"start" and len(content)) or (len(content), len(set(content))))
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen <= {5, (300_000, 1)}
    assert list(tmp_path.iterdir()) == [file]


def test_a_private_file_stays_private_and_a_new_one_is_as_others(tmp_path: Path) -> None:
    private, common = tmp_path / "private", tmp_path / "common"
    private.touch(mode=0o600)
    write_atomically(private, b"secret")
    write_atomically(common, b"known")
    (tmp_path / "other").touch()
    assert private.stat().st_mode & 0o777 == 0o600
    assert common.stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("variables", [{"RANK": "1"}, {"RANK": "1", "WORLD_SIZE": "2"}])
def test_a_rank_in_the_environment_silences_nobody_without_torchrun(variables: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "acil.cli", "info", "/nonexistent"],
        env={**{name: value for name, value in os.environ.items() if name != "TORCHELASTIC_RUN_ID"}, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "/nonexistent" in done.stderr
