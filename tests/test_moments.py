"""Integer moments are sums: of anything, in any order, and back again."""

import copy
import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from acil.errors import NotLearnedError
from acil.head import FeatureMoments, integer_product

DIM = 5


def samples(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(-127, 128, (n, DIM), generator=generator, dtype=torch.int8)
    return rows, torch.tensor([0, 4, 10**12])[torch.randint(0, 3, (n,), generator=generator)]


def moments_of(rows: Tensor, labels: Tensor) -> FeatureMoments:
    moments = FeatureMoments(rows.shape[1])
    moments.add(rows, labels)
    return moments


def state(moments: FeatureMoments) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in moments.state_dict().items()}


def same_state(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_they_are_what_the_definition_says() -> None:
    rows, labels = samples(200, seed=0)
    moments = moments_of(rows, labels)
    wide = rows.long()
    assert torch.equal(moments.autocorrelation.triu(), (wide.t() @ wide).triu())
    assert moments.classes.tolist() == [0, 4, 10**12]
    for label, count, sums in zip(moments.classes, moments.counts, moments.cross_correlation, strict=True):
        assert int(count) == int((labels == label).sum())
        assert torch.equal(sums, wide[labels == label].sum(dim=0))
    assert moments.samples == 200


@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=8), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_adding_then_subtracting_any_parts_in_any_order_is_identity(sizes: list[int], seed: int) -> None:
    rows, labels = samples(sum(sizes), seed)
    kept = moments_of(*samples(20, seed=100))
    before = state(kept)
    parts = [moments_of(rows[part], labels[part]) for part in torch.arange(len(rows)).split(sizes)]
    for part in parts:
        kept.merge(part)
    for part in reversed(parts):
        kept.subtract(part)
    assert same_state(before, state(kept))


@given(seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_equal_digests_mean_equal_moments(seed: int) -> None:
    rows, labels = samples(30, seed)
    digest = moments_of(rows, labels).digest()
    assert moments_of(rows.flip(0), labels.flip(0)).digest() == digest
    place = seed % 30, seed % DIM
    rows[place] = rows[place] == 0
    assert moments_of(rows, labels).digest() != digest


def test_the_digest_is_the_documented_one() -> None:
    moments = moments_of(torch.tensor([[1, 2], [3, -4]], dtype=torch.int8), torch.tensor([7, 7]))
    numbers = [2, 1, 7, 2, 4, -2, 10, -10, 20]  # d, K, class, count, C, then A from the diagonal on
    expected = hashlib.sha256(b"".join(number.to_bytes(8, "little", signed=True) for number in numbers))
    assert moments.digest() == expected.hexdigest()


def test_the_digest_reads_nothing_below_the_diagonal(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = samples(100, seed=1)
    digest = moments_of(rows, labels).digest()
    monkeypatch.setattr(integer_product, "BLOCK_WIDTH", 2)
    assert moments_of(rows, labels).digest() == digest


def test_classes_without_samples_disappear() -> None:
    rows, labels = samples(60, seed=2)
    moments = moments_of(rows, labels)
    moments.subtract(moments_of(rows[labels == 4], labels[labels == 4]))
    assert moments.classes.tolist() == [0, 10**12]
    assert moments.digest() == moments_of(rows[labels != 4], labels[labels != 4]).digest()
    moments.subtract(moments_of(rows[labels != 4], labels[labels != 4]))
    assert same_state(state(moments), state(FeatureMoments(DIM)))


def test_moments_may_be_merged_with_and_taken_from_themselves() -> None:
    rows, labels = samples(20, seed=3)
    moments = moments_of(rows, labels)
    moments.merge(moments)
    assert moments.digest() == moments_of(torch.cat([rows, rows]), torch.cat([labels, labels])).digest()
    moments.subtract(moments)
    assert moments.digest() == FeatureMoments(DIM).digest()


def test_what_cannot_have_been_learned_is_not_subtracted() -> None:
    rows, labels = samples(40, seed=4)
    moments = moments_of(rows, labels)
    before, version = state(moments), moments.version
    shuffled = rows[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    for other, told in [
        (moments_of(rows[:1], torch.tensor([9])), "1 samples of class 9: 0 were learned"),
        (moments_of(torch.cat([rows, rows[:1]]), torch.cat([labels, labels[:1]])), "were learned"),
        (moments_of(shuffled, labels), "impossible moments"),
        (moments_of(rows.flip(1), labels), "impossible moments"),
        (moments_of(torch.full((1, DIM), 127, dtype=torch.int8).repeat(12, 1), labels[labels == 0][:12]), "impossible"),
        (FeatureMoments(DIM + 1), "width 6"),
    ]:
        with pytest.raises(ValueError, match=told):
            moments.subtract(other)
        assert same_state(before, state(moments))
    assert moments.version == version
    assert issubclass(NotLearnedError, ValueError)


@pytest.mark.parametrize(
    ("rows", "labels", "told"),
    [
        (torch.full((2, DIM), -128, dtype=torch.int8), torch.tensor([0, 1]), r"-127\.\.127"),
        (torch.zeros(2, DIM), torch.tensor([0, 1]), "int8"),
        (torch.zeros(2, DIM + 1, dtype=torch.int8), torch.tensor([0, 1]), r"\(n, 5\)"),
        (torch.zeros(DIM, dtype=torch.int8), torch.tensor([0]), r"\(n, 5\)"),
        (torch.zeros(2, DIM, dtype=torch.int8), torch.tensor([0, -1]), "0 or more"),
        (torch.zeros(2, DIM, dtype=torch.int8), torch.tensor([0]), r"\(2,\)"),
    ],
)
def test_bad_rows_are_refused_and_change_nothing(rows: Tensor, labels: Tensor, told: str) -> None:
    moments = moments_of(*samples(10, seed=5))
    before = state(moments)
    with pytest.raises(ValueError, match=told):
        moments.add(rows, labels)
    assert same_state(before, state(moments))


def test_the_version_grows_with_every_change_and_only_then() -> None:
    moments = moments_of(*samples(10, seed=6))
    version = moments.version
    moments.add(torch.zeros(0, DIM, dtype=torch.int8), torch.zeros(0, dtype=torch.int64))
    assert moments.version == version
    versions = [version]
    for change in (
        lambda: moments.add(*samples(3, seed=7)),
        lambda: moments.merge(copy.deepcopy(moments)),
        lambda: moments.subtract(moments_of(*samples(3, seed=7))),
        lambda: moments.load_state_dict(moments.state_dict()),
    ):
        change()
        versions.append(moments.version)
    assert versions == sorted(set(versions))


def test_the_state_moves_into_moments_with_other_classes() -> None:
    moments, other = moments_of(*samples(30, seed=8)), FeatureMoments(DIM)
    other.add(torch.ones(1, DIM, dtype=torch.int8), torch.tensor([77]))
    other.load_state_dict(moments.state_dict())
    assert same_state(state(moments), state(other))
    other.add(*samples(4, seed=9))
    moments.add(*samples(4, seed=9))
    assert moments.digest() == other.digest()


def test_casting_to_floating_point_leaves_the_integers_alone() -> None:
    moments = moments_of(*samples(30, seed=10))
    digest = moments.digest()
    assert moments.half().double().digest() == digest
