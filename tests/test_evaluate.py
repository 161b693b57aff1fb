"""Counts by class, from features that were extracted once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from acil import AnalyticLearner, ExactHead, RandomBuffer
from acil.evaluate import ClassCounts, count_correct


def learned(features: Tensor, labels: Tensor) -> AnalyticLearner:
    learner = AnalyticLearner(nn.Identity(), RandomBuffer(features.shape[1], 40), ExactHead(40))
    if len(labels):
        learner.learn_features(features, labels)
    return learner


def samples(n: int, seed: int, labels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    picked = torch.tensor(labels)[torch.randint(0, len(labels), (n,), generator=generator)]
    return torch.randn(n, 8, generator=generator) + picked[:, None].remainder(7), picked


@given(n=st.integers(0, 120), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_counts_are_what_comparing_predictions_gives(n: int, seed: int) -> None:
    learner = learned(*samples(60, 0, labels=(2, 5, 10**6)))
    features, labels = samples(n, seed, labels=(10**6, 3, 2, 5))  # nothing was learned of class 3
    counts = count_correct(learner, features, labels)
    right = learner.predict(features) == labels
    for label in (2, 5, 10**6):
        of_class = labels == label
        assert counts.total.get(label, 0) == int(of_class.sum())
        assert counts.correct.get(label, 0) == int(right[of_class].sum())
    assert 3 not in counts.total
    known = labels != 3
    assert counts.accuracy == pytest.approx(float(right[known].double().mean()) if known.any() else 0.0)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = learned(*samples(60, 0, labels=(0, 1, 2)))
    test = samples(50, 1, labels=(0, 1, 2))
    whole = count_correct(learner, *test)
    monkeypatch.setattr("acil.evaluate.CLASSIFIED_ROWS", 7)
    assert count_correct(learner, *test) == whole


def test_counting_changes_nothing_in_the_learner() -> None:
    features, labels = samples(60, 0, labels=(0, 1, 2))
    learner, kept = learned(features, labels), features.clone()
    digest = learner.digest()
    count_correct(learner, features, labels)
    assert learner.digest() == digest
    assert torch.equal(features, kept)


def test_a_learner_of_nothing_has_counts_of_nothing() -> None:
    counts = count_correct(learned(torch.zeros(0, 8), torch.zeros(0)), *samples(10, 0, labels=(0, 1)))
    assert counts == ClassCounts(correct={}, total={})
    assert counts.accuracy == 0.0


def test_accuracy_weighs_samples_and_leaves_absent_classes_out() -> None:
    counts = ClassCounts(correct={0: 1, 4: 9}, total={0: 10, 4: 10})
    assert counts.accuracy == 0.5
    assert counts.accuracy_on([4, 77]) == 0.9
    assert counts.accuracy_on([77]) == 0.0
    assert counts.accuracy_on([]) == 0.0
