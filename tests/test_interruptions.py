"""Ctrl-C, failing memory and a second writer leave everything whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from acil import AnalyticHead, ExactHead, RecursiveHead
from acil.files import write_atomically
from acil.head import exact, integer_product, moments
from acil.transaction import uninterrupted

pytestmark = pytest.mark.usefixtures("one_thread", "heard_interrupts")

DIM = 2_200  # three stripes of the autocorrelation


@pytest.fixture
def heard_interrupts() -> Iterator[None]:
    """Processes that a script starts in the background ignore Ctrl-C, and these tests with them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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


def interrupt_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the autocorrelation is being added to."""

    def interrupted(total: Tensor, stripes: list[Tensor]) -> None:
        signal.raise_signal(signal.SIGINT)
        add_stripes(total, stripes)

    add_stripes = moments.add_stripes
    monkeypatch.setattr(moments, "add_stripes", interrupted)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("learn", ["learn", "learn_phase"])
def test_ctrl_c_during_a_change_leaves_all_of_it_or_nothing(
    monkeypatch: pytest.MonkeyPatch, learn: str, calibrated: bool, parts: int
) -> None:
    monkeypatch.setattr(exact, "PRODUCT_ROWS", 30)
    head, expected = ExactHead(DIM), ExactHead(DIM)
    if calibrated:
        head.learn(*samples(20, 0))
        expected.learn(*samples(20, 0))
    before = state(head)
    phase = [samples(30, seed) for seed in range(1, parts + 1)] if learn == "learn_phase" else [samples(30, 1)]
    with monkeypatch.context() as patch:
        interrupt_changes(patch)
        with pytest.raises(KeyboardInterrupt):
            head.learn(*phase[0]) if learn == "learn" else head.learn_phase(phase)
    expected.learn_phase(phase)
    after = state(head)
    outcomes = before, state(expected)
    assert any(same(outcome, after) for outcome in outcomes)
    assert same(after, before) == (len(phase) > 1)  # one part is learned whole; of several, none


def test_ctrl_c_during_forgetting_and_merging_comes_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    head = ExactHead(DIM)
    head.learn(*samples(20, 0))
    alone, other = state(head), head.fresh()
    other.learn(*samples(30, 1))
    whole = head.fresh()
    whole.merge(head)
    whole.merge(other)
    for change, outcome in ((head.merge, state(whole)), (head.subtract, alone)):
        name = change.__name__
        inner = getattr(head.moments, name)

        def interrupted(*arguments: object, inner: Callable[..., None] = inner) -> None:
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
                inner(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(head.moments, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                change(other)
        assert same(state(head), outcome)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


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
from collections.abc import Callable, Iterator
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
