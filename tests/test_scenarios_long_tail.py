"""Long tails have the published sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acil.scenarios import LabelledTensors, long_tailed, shot_groups


def balanced(per_class: int, classes: int) -> LabelledTensors:
    targets = torch.arange(classes).repeat(per_class)
    rows = torch.arange(len(targets), dtype=torch.float32)[:, None]
    return LabelledTensors(rows, targets)


def sizes(data: LabelledTensors, classes: int) -> list[int]:
    return torch.bincount(data.targets, minlength=classes).tolist()


def test_exponential_tails_are_those_of_long_tailed_cifar10() -> None:
    tailed = long_tailed(balanced(5_000, 10), "exp:0.01")
    assert sizes(tailed, 10) == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def test_steps_leave_half_of_the_classes_whole() -> None:
    assert sizes(long_tailed(balanced(100, 5), "step:0.1"), 5) == [100, 100, 100, 10, 10]


@given(
    kind=st.sampled_from(["exp", "step"]), ratio=st.floats(0.001, 1), seed=st.integers(0, 3), classes=st.integers(1, 8)
)
@settings(deadline=None, max_examples=60)
def test_sizes_fall_and_no_class_is_lost_or_invented(kind: str, ratio: float, seed: int, classes: int) -> None:
    data = balanced(40, classes)
    tailed = long_tailed(data, f"{kind}:{ratio}", seed=seed)
    counts = sizes(tailed, classes)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 40
    assert counts[-1] >= 1
    places = tailed.inputs[:, 0].long()
    assert torch.equal(data.targets[places], tailed.targets)
    assert len(places.unique()) == len(places)


def test_classes_can_be_ordered_and_others_stay_whole() -> None:
    tailed = long_tailed(balanced(100, 6), "exp:0.1", classes=[4, 2, 0])
    assert sizes(tailed, 6) == [10, 100, 31, 100, 100, 100]


def test_a_class_that_has_fewer_samples_keeps_them() -> None:
    targets = torch.tensor([0] * 100 + [1] * 5 + [2] * 100)
    tailed = long_tailed(LabelledTensors(torch.rand(205, 2), targets), "exp:0.25")
    assert sizes(tailed, 3) == [100, 5, 25]


def test_seeds_choose_the_samples() -> None:
    one, same, other = (long_tailed(balanced(50, 4), "exp:0.1", seed=seed).inputs for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_groups_are_thirds_by_size() -> None:
    counts = dict(enumerate([5, 900, 30, 400, 7, 100, 60, 2, 80, 20]))
    assert shot_groups(counts) == {"many": [1, 3, 5], "medium": [8, 6, 2, 9], "few": [4, 0, 7]}


@pytest.mark.parametrize(
    ("imbalance", "options", "match"),
    [
        ("linear:0.1", {}, "There are: exp, step"),
        ("exp", {}, "must be above 0"),
        ("exp:0", {}, "must be above 0"),
        ("step:1.5", {}, "must be above 0"),
        ("exp:0.1", {"classes": [0, 9]}, "class 9 has no sample"),
        ("exp:0.1", {"classes": [0, 0]}, "named twice"),
    ],
)
def test_what_does_not_fit_is_refused(imbalance: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        long_tailed(balanced(10, 4), imbalance, **options)
