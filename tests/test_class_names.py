"""Classes that go by name: labels that names get, and learners that agree by name before they are merged."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acil import AnalyticLearner, ExactHead, RandomBuffer
from acil.class_names import match_names, name_of

NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True)


@given(NAMES, NAMES)
def test_known_names_keep_their_label_and_new_ones_follow(names: list[str], class_names: list[str]) -> None:
    label_of, known = match_names(names, class_names, range(len(class_names)))
    assert known[: len(class_names)] == tuple(class_names)
    assert set(known) == {*names, *class_names}
    assert len(set(known)) == len(known)
    assert {name: known[label] for name, label in label_of.items()} == {name: name for name in names}


def test_a_nameless_label_or_a_name_of_two_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="label 2 has no name"):
        match_names(["c"], ["a", "b"], [0, 2])
    with pytest.raises(ValueError, match="two classes are called 'a'"):
        match_names(["c"], ["a", "b", "a"], [0])


def test_a_label_without_a_name_is_called_by_its_number() -> None:
    assert [name_of(label, ("a",)) for label in (0, 1)] == ["a", "1"]


def rows_of(name: str, count: int = 5) -> torch.Tensor:
    """Feature rows that belong to a name alone."""
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(ord(name)))


def start() -> AnalyticLearner:
    learner = AnalyticLearner(torch.nn.Flatten(), RandomBuffer(4, 16), ExactHead(16), class_names=("a", "b"))
    learner.learn(torch.cat([rows_of("a"), rows_of("b")]), torch.arange(10) // 5)
    return learner


def client(learner: AnalyticLearner, *names: str) -> AnalyticLearner:
    """A client that has learned these classes and labelled new ones in its own order."""
    fresh = learner.fresh()
    label_of, fresh.class_names = match_names(names, fresh.class_names, [])
    for name in names:
        fresh.learn(rows_of(name), torch.full((5,), label_of[name]))
    return fresh


@settings(deadline=None, max_examples=40)
@given(NAMES, NAMES)
def test_clients_that_gave_one_label_to_different_classes_merge_by_name(ours: list[str], theirs: list[str]) -> None:
    learner = start()
    one, other = client(learner, *ours), client(learner, *theirs)
    before = other.digest(), other.class_names
    joint = client(learner, *ours)
    label_of, joint.class_names = match_names(theirs, joint.class_names, joint.classes.tolist())
    for name in theirs:
        joint.learn(rows_of(name), torch.full((5,), label_of[name]))
    one.merge(other)
    assert one.digest() == joint.digest()
    assert one.class_names == joint.class_names
    assert (other.digest(), other.class_names) == before


def test_learners_with_equal_names_or_none_merge_by_label() -> None:
    learner = start()
    one, other = client(learner, "a"), client(learner, "b")
    other.class_names = ()
    one.merge(other)
    assert one.digest() == learner.digest()
    assert one.class_names == ("a", "b")


def test_a_learner_with_nameless_classes_does_not_merge_by_name() -> None:
    learner = start()
    other = client(learner, "b")
    other.learn(rows_of("x"), torch.full((5,), 9))
    other.class_names = ("a", "b", "c")
    before = learner.digest(), learner.class_names
    for one, two in ((learner, other), (other, learner)):
        with pytest.raises(ValueError, match="label 9 has no name"):
            one.merge(two)
    assert (learner.digest(), learner.class_names) == before


def test_moments_take_only_labels_that_keep_classes_apart() -> None:
    head, other = start().head, start().head
    before = head.digest()
    for labels in (torch.tensor([3, 3]), torch.tensor([3]), torch.tensor([-1, 2]), torch.tensor([0.0, 1.0])):
        with pytest.raises(ValueError):
            head.merge(other, labels)
    assert head.digest() == before
