"""Wrong labels come at the asked rate, where they were asked for, and the right ones stay known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from acil.scenarios import LabelledTensors, NoisyTensors, add_label_noise

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
KINDS = ["symmetric", "asymmetric", "pair", "instance"]


def data(n: int = 2_000, classes: int = 10) -> LabelledTensors:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 6, 6), generator=generator, dtype=torch.uint8)
    return LabelledTensors(images, torch.randint(0, classes, (n,), generator=generator))


def transitions(noisy: NoisyTensors) -> Tensor:
    size = len(noisy.transition)
    counts = torch.zeros(size, size, dtype=torch.float64)
    return counts.index_put_((noisy.true_targets, noisy.targets), torch.ones(1, dtype=torch.float64), accumulate=True)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_follow_the_transition_matrix(kind: str) -> None:
    noisy = add_label_noise(data(20_000), f"{kind}:0.4", class_names=CIFAR10)
    assert torch.allclose(noisy.transition.sum(dim=1), torch.ones(10, dtype=torch.float64))
    observed = transitions(noisy)
    for counts, expected in zip(observed, noisy.transition, strict=True):
        possible = expected > 0
        assert counts[~possible].sum() == 0
        if possible.sum() > 1:
            scaled = expected[possible] / expected[possible].sum() * counts.sum()
            assert stats.chisquare(counts[possible].numpy(), scaled.numpy()).pvalue > 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_labels_stay_known_and_the_data_as_it_was(kind: str) -> None:
    clean = data()
    before = clean.targets.clone()
    noisy = add_label_noise(clean, f"{kind}:0.4")
    assert torch.equal(clean.targets, before)
    assert torch.equal(noisy.true_targets, before)
    assert not torch.equal(noisy.targets, before)
    assert torch.equal(noisy.inputs, clean.inputs)


@given(rate=st.floats(0, 1), n=st.integers(1, 60), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=50)
def test_symmetric_noise_changes_exactly_its_share_and_keeps_no_class(rate: float, n: int, seed: int) -> None:
    clean = data(n, classes=4)
    noisy = add_label_noise(clean, f"symmetric:{rate}", seed=seed)
    wrong = int((noisy.targets != clean.targets).sum())
    assert wrong == (round(rate * n) if len(set(clean.targets.tolist())) > 1 else 0)


def test_cifar10_is_mistaken_as_published_and_other_names_for_the_next_class() -> None:
    noisy = add_label_noise(data(), "asymmetric:1", class_names=CIFAR10)
    pairs = {(CIFAR10[a], CIFAR10[b]) for a, b in zip(noisy.true_targets, noisy.targets, strict=True) if a != b}
    assert pairs == {("truck", "automobile"), ("bird", "airplane"), ("deer", "horse"), ("cat", "dog"), ("dog", "cat")}
    other = add_label_noise(data(), "asymmetric:1", class_names="abcdefghij")
    assert torch.equal(other.targets, (other.true_targets + 1) % 10)
    assert torch.equal(other.targets, add_label_noise(data(), "pair:1").targets)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_stay_in_their_group_and_classes_of_none_stay_right(kind: str) -> None:
    groups = [[1, 5, 7], [0, 2], [9]]
    noisy = add_label_noise(data(), f"{kind}:0.5", groups=groups)
    group_of = {label: place for place, group in enumerate(groups) for label in group}
    for true, label in zip(noisy.true_targets.tolist(), noisy.targets.tolist(), strict=True):
        assert label == true or (true in group_of and group_of[true] == group_of.get(label))
    wrong = noisy.targets != noisy.true_targets
    assert set(noisy.true_targets[wrong].tolist()) == {0, 1, 2, 5, 7}


def test_instance_noise_depends_on_the_image() -> None:
    image = torch.randint(0, 256, (2, 1, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    repeated = LabelledTensors(image.repeat_interleave(4_000, dim=0), torch.tensor([0, 1]).repeat(4_000))
    noisy = add_label_noise(
        LabelledTensors(repeated.inputs, repeated.targets * 3 % 4), "instance:0.4", groups=[range(4)]
    )
    wrong = noisy.targets != noisy.true_targets
    assert 0.37 < float(wrong.double().mean()) < 0.43
    for half in (slice(0, 4_000), slice(4_000, None)):
        first = noisy.true_targets[half] == 0
        mistakes = torch.bincount(noisy.targets[half][first & wrong[half]], minlength=4).double()
        assert mistakes.max() / mistakes.sum() > 0.5  # alike images are mistaken alike


def test_seeds_decide() -> None:
    first, again = (add_label_noise(data(), "instance:0.4", seed=1).targets for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, add_label_noise(data(), "instance:0.4", seed=2).targets)


def test_foreign_images_take_the_place_of_some_and_labels_stay() -> None:
    clean = data()
    foreign = torch.full((3, 1, 6, 6), 7, dtype=torch.uint8)
    noisy = add_label_noise(clean, "open-set:0.25", foreign=foreign)
    replaced = (noisy.inputs == 7).flatten(1).all(dim=1)
    assert int(replaced.sum()) == 500
    assert torch.equal(noisy.targets, clean.targets)
    assert torch.equal(noisy.true_targets, torch.where(replaced, -1, clean.targets))
    assert torch.equal(noisy.inputs[~replaced], clean.inputs[~replaced])


def test_parts_keep_the_right_labels() -> None:
    noisy = add_label_noise(data(), "symmetric:0.5")
    part = noisy.subset([5, 3, 1_000])
    assert part.targets.tolist() == noisy.targets[[5, 3, 1_000]].tolist()
    assert part.true_targets.tolist() == noisy.true_targets[[5, 3, 1_000]].tolist()
    assert torch.equal(part.transition, noisy.transition)


@pytest.mark.parametrize(
    ("noise", "options", "match"),
    [
        ("symetric:0.4", {}, "did you mean symmetric"),
        ("symmetric", {}, "rate of label noise must be"),
        ("symmetric:2", {}, "rate of label noise must be"),
        ("symmetric:nan", {}, "rate of label noise must be"),
        ("pair:0.4", {"groups": [[0, 1], [1, 2]]}, "two groups"),
        ("open-set:0.4", {}, "needs foreign images"),
        ("open-set:0.4", {"foreign": torch.zeros(2, 3, 6, 6, dtype=torch.uint8)}, "needs foreign images"),
    ],
)
def test_what_does_not_fit_is_refused(noise: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        add_label_noise(data(), noise, **options)


def test_feature_rows_can_be_noisy_too() -> None:
    rows = LabelledTensors(torch.from_numpy(np.random.default_rng(0).normal(size=(500, 7)).astype(np.float32)),
                           torch.arange(500) % 5)  # fmt: skip
    noisy = add_label_noise(rows, "instance:0.3")
    assert 0.2 < float((noisy.targets != noisy.true_targets).double().mean()) < 0.4
