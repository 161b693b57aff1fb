"""The scikit-learn estimator: scikit-learn's own checks, and the engine's exactness with any labels."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelBinarizer, PolynomialFeatures
from sklearn.utils.estimator_checks import parametrize_with_checks

from acil import AnalyticClassifier, NotLearnedError

Samples = tuple[NDArray[np.float64], NDArray[Any]]

pytestmark = pytest.mark.usefixtures("one_thread")


@parametrize_with_checks([AnalyticClassifier(buffer_size=64), AnalyticClassifier(buffer_size=64, gamma=0.1, bits=16)])
def test_scikit_learn_checks(estimator: AnalyticClassifier, check: Callable[[AnalyticClassifier], None]) -> None:
    check(estimator)


@st.composite
def samples(draw: st.DrawFn) -> Samples:
    """A few rows of wild numbers, with labels that are all integers or all strings."""
    rows, width = draw(st.integers(2, 24)), draw(st.integers(1, 4))
    values = st.floats(-1e6, 1e6, width=32)
    X = np.array(draw(st.lists(values, min_size=rows * width, max_size=rows * width))).reshape(rows, width)
    kinds = st.sampled_from([[-3, 0, 7], ["owl", "cat", "a longer name"]])
    labels = st.sampled_from(draw(kinds))
    return X, np.array(draw(st.lists(labels, min_size=rows, max_size=rows)))


def small(**parameters: Any) -> AnalyticClassifier:
    return AnalyticClassifier(buffer_size=16, **parameters)


@settings(max_examples=60, deadline=None)
@given(data=samples(), random=st.randoms(use_true_random=False), bits=st.sampled_from([8, 16]))
def test_batches_and_their_order_cannot_matter(data: Samples, random: Any, bits: int) -> None:
    X, y = data
    joint = small(bits=bits, gamma=1.0).fit(X, y)
    order = np.array(random.sample(range(len(y)), len(y)))
    cuts = sorted(random.sample(range(1, len(y)), random.randrange(len(y))))
    parts = small(bits=bits, gamma=1.0).calibrate(X)
    for batch in np.split(order, cuts):
        parts.partial_fit(X[batch], y[batch])
    assert parts.digest() == joint.digest()
    assert parts.classes_.tolist() == joint.classes_.tolist() == sorted(set(y.tolist()))
    assert np.array_equal(parts.decision_function(X), joint.decision_function(X))


@settings(max_examples=60, deadline=None)
@given(data=samples(), random=st.randoms(use_true_random=False))
def test_the_first_batch_fixes_the_path_and_the_rest_may_come_in_any_batches(data: Samples, random: Any) -> None:
    X, y = data
    first = random.randrange(1, len(y))
    at_once = small().partial_fit(X[:first], y[:first]).partial_fit(X[first:], y[first:])
    one_by_one = small().partial_fit(X[:first], y[:first])
    for row in random.sample(range(first, len(y)), len(y) - first):
        one_by_one.partial_fit(X[[row]], y[[row]])
    assert one_by_one.digest() == at_once.digest()


@settings(max_examples=60, deadline=None)
@given(data=samples(), random=st.randoms(use_true_random=False))
def test_forgotten_samples_leave_no_trace(data: Samples, random: Any) -> None:
    X, y = data
    forgotten = np.array([random.random() < 0.5 for _ in y])
    forgotten[0] = False
    never = small().calibrate(X).partial_fit(X[~forgotten], y[~forgotten])
    learned = small().fit(X, y)
    if forgotten.any():
        learned.forget(X[forgotten], y[forgotten])
    assert learned.digest() == never.digest()
    assert learned.classes_.tolist() == never.classes_.tolist()


@settings(max_examples=60, deadline=None)
@given(data=samples(), random=st.randoms(use_true_random=False))
def test_merged_classifiers_are_one_that_saw_everything(data: Samples, random: Any) -> None:
    X, y = data
    clients = [small().calibrate(X) for _ in range(3)]
    for client, rows in zip(clients, np.split(np.arange(len(y)), [len(y) // 3, len(y) // 2]), strict=True):
        if len(rows):
            client.partial_fit(X[rows], y[rows])
    random.shuffle(clients)
    left = clients[1].digest() if hasattr(clients[1], "classes_") else None
    merged = clients[0].merge(clients[1]).merge(clients[2])
    assert merged.digest() == small().fit(X, y).digest()
    assert merged.classes_.tolist() == sorted(set(y.tolist()))
    assert left is None or clients[1].digest() == left


def test_scores_are_those_of_scikit_learns_ridge_on_the_same_expansion() -> None:
    X, y = load_iris(return_X_y=True)
    classifier = AnalyticClassifier(buffer_size=40, gamma=0.3, bits=16).fit(X, y)
    z = (X - X.mean(axis=0)) / X.std(axis=0)
    z = np.where(np.abs(z) > 3, np.sign(z) * 3 * (1 + np.log(np.maximum(np.abs(z), 3) / 3)), z)
    buffer = classifier._learner.buffer
    phi = np.cos(z @ buffer.projection.double().numpy() + buffer.offset.double().numpy())
    ridge = Ridge(alpha=0.3, fit_intercept=False).fit(phi, LabelBinarizer().fit_transform(y))
    assert np.abs(classifier.decision_function(X) - ridge.predict(phi)).max() < 1e-3  # 16 bits round phi to 3e-5
    assert np.abs(ridge.predict(phi)).max() > 0.5


def test_two_classes_have_one_score_whose_sign_is_the_prediction() -> None:
    X, y = load_iris(return_X_y=True)
    three = AnalyticClassifier(buffer_size=64).fit(X, np.array(["a", "b", "c"])[y])
    two = AnalyticClassifier(buffer_size=64).calibrate(X).partial_fit(X[y > 0], np.array(["a", "b", "c"])[y[y > 0]])
    assert three.decision_function(X).shape == (150, 3)
    assert np.array_equal(three.predict(X), three.classes_[three.decision_function(X).argmax(axis=1)])
    score = two.decision_function(X)
    assert score.shape == (150,)
    assert np.array_equal(two.predict(X), np.where(score > 0, "c", "b"))
    assert two.score(X[y > 0], np.array(["a", "b", "c"])[y[y > 0]]) > 0.9
    three.forget(X[y == 0], ["a"] * 50)
    assert three.classes_.tolist() == ["b", "c"]
    assert np.array_equal(three.decision_function(X), score)


@pytest.mark.parametrize("change", [lambda X: 1e-9 * X, lambda X: 1e9 + X, lambda X: X * np.geomspace(1e-30, 1e30, 13)])
def test_neither_scale_nor_offset_of_features_matters(change: Callable[[Any], Any]) -> None:
    X, y = load_wine(return_X_y=True)
    plain, changed = (AnalyticClassifier(buffer_size=128).fit(x, y).decision_function(x) for x in (X, change(X)))
    assert np.abs(plain - changed).max() < 0.05
    assert (plain.argmax(axis=1) == changed.argmax(axis=1)).mean() > 0.99


def test_classes_that_come_one_at_a_time_are_learned_as_well_as_together() -> None:
    """Most pixels of the first class hardly vary; the others lie hundreds of its deviations away."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, random_state=0)
    together = AnalyticClassifier(buffer_size=512).fit(X, y)
    one_by_one = AnalyticClassifier(buffer_size=512)
    for label in range(10):
        one_by_one.partial_fit(X[y == label], y[y == label])
    assert together.score(X_test, y_test) > 0.97
    assert one_by_one.score(X_test, y_test) > together.score(X_test, y_test) - 0.02


@pytest.mark.parametrize(
    ("first", "unit"),
    [([[0.0, 5.0]], 1e9), ([[0.0, 5.0]], 1e-9), ([[3.0, 5.0], [4.0, 5.0]], 1e9), ([[0.0, 0.0]], 1.0)],
    ids=["one large", "one small", "one constant", "zero"],
)
def test_a_first_batch_that_hardly_varies_still_lets_classes_be_told_apart(first: Any, unit: float) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 2)) + np.repeat([[0, 5], [6, 0], [-6, 0]], 30, axis=0)
    y = np.repeat(["one", "two", "three"], 30)
    classifier = AnalyticClassifier(buffer_size=128).partial_fit(unit * np.array(first), ["one"] * len(first))
    assert classifier.partial_fit(unit * X, y).score(unit * X, y) > 0.97


def test_pipelines_searches_clones_and_pickles() -> None:
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    pipeline = make_pipeline(PolynomialFeatures(2, include_bias=False), AnalyticClassifier(buffer_size=64))
    assert cross_val_score(pipeline, X, names).mean() > 0.9
    grid = {"buffer_size": np.array([16, 64]), "gamma": ["auto", *np.logspace(-2, 1, 2)], "bits": [8, 16]}
    search = GridSearchCV(AnalyticClassifier(), grid, cv=3).fit(X, names)
    assert search.best_score_ > 0.9
    best = search.best_estimator_
    assert clone(best).fit(X, names).digest() == best.digest()
    loaded = pickle.loads(pickle.dumps(best))
    assert loaded.digest() == best.digest()
    assert np.array_equal(loaded.decision_function(X), best.decision_function(X))
    assert loaded.partial_fit(X[:5] + 9, ["new"] * 5).classes_.tolist() == sorted({*names, "new"})


def test_the_digest_covers_labels_and_not_how_they_are_stored() -> None:
    X = np.arange(8.0).reshape(4, 2)
    as_integers = small().fit(X, np.array([0, 1, 0, 1], dtype=np.int32)).digest()
    assert small().fit(X, [0.0, 1.0, 0.0, 1.0]).digest() == as_integers
    assert small().fit(X, [0, 2, 0, 2]).digest() != as_integers
    assert small().fit(X, ["0", "1", "0", "1"]).digest() != as_integers
    strings = np.array(["a", "b", "a", "b"])
    assert small().fit(X, strings).digest() == small().fit(X, strings.astype(object)).digest()


def test_the_random_state_fixes_the_expansion() -> None:
    X, y = load_iris(return_X_y=True)
    digests = [small(random_state=state).fit(X, y).digest() for state in (0, 0, 1, np.random.RandomState(1))]
    assert digests[0] == digests[1] != digests[2] == digests[3]
    assert small(random_state=None).fit(X, y).digest() != small(random_state=None).fit(X, y).digest()


X_BAD = np.arange(12.0).reshape(6, 2)
Y_BAD = np.array(["a", "b", "a", "b", "a", "b"])
BAD_CALLS: dict[str, tuple[Callable[[AnalyticClassifier], Any], str]] = {
    "width": (lambda c: c.partial_fit(np.zeros((2, 3)), ["a", "b"]), "3 features"),
    "nan": (lambda c: c.partial_fit([[np.nan, 0.0]], ["a"]), "NaN"),
    "lengths": (lambda c: c.partial_fit(X_BAD, ["a"]), "inconsistent"),
    "kind": (lambda c: c.partial_fit(X_BAD[:2], [0, 1]), "one kind of label"),
    "mixture": (lambda c: c.partial_fit(X_BAD[:2], np.array(["a", 1], dtype=object)), "mixture"),
    "unlisted": (lambda c: c.partial_fit(X_BAD[:2], ["a", "c"], classes=["a", "b"]), r"\['c'\]"),
    "continuous": (lambda c: c.partial_fit(X_BAD[:2], [0.5, 1.5]), "continuous"),
    "forget unknown class": (lambda c: c.forget(X_BAD[:1], ["c"]), "class 'c': 0 were learned"),
    "forget too many": (lambda c: c.forget(np.tile(X_BAD, (2, 1)), np.tile(Y_BAD, 2)), "6 samples of class 'a': 3"),
    "forget others": (lambda c: c.forget(X_BAD + 1, Y_BAD), "cannot all have been learned"),
    "merge something": (lambda c: c.merge("c"), "got str"),
    "merge another state": (lambda c: c.merge(small(random_state=1).fit(X_BAD, Y_BAD)), "random_state"),
    "merge another path": (lambda c: c.merge(small().fit(X_BAD + X_BAD**2, Y_BAD)), "standardisation"),
    "merge another gamma": (lambda c: c.merge(small(gamma=2.0).fit(X_BAD, Y_BAD)), "gamma"),
    "merge another kind": (lambda c: c.merge(small().fit(X_BAD, [0, 1] * 3)), "one kind of label"),
    "fit nothing": (lambda c: c.fit(X_BAD[:0], Y_BAD[:0]), "0 sample"),
    "fit too large": (lambda c: c.fit(X_BAD * 1e300, Y_BAD), "scale them down"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_calls_change_nothing(name: str) -> None:
    call, message = BAD_CALLS[name]
    classifier = small().fit(X_BAD, Y_BAD)
    before = classifier.digest()
    with pytest.raises(ValueError, match=message):
        call(classifier)
    assert classifier.digest() == before
    assert classifier.classes_.tolist() == ["a", "b"]
    assert classifier.partial_fit(X_BAD, Y_BAD).forget(X_BAD, Y_BAD).digest() == before


@pytest.mark.parametrize("bad", [{"buffer_size": 0}, {"buffer_size": 2.5}, {"gamma": -1}, {"gamma": "x"}, {"bits": 7}])
def test_bad_parameters_are_refused_when_fitting(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad)).replace("buffer_size", "dim|buffer_size")):
        AnalyticClassifier(**bad).fit(X_BAD, Y_BAD)


def test_what_was_emptied_or_only_calibrated_is_not_fitted_but_can_learn() -> None:
    emptied = small().fit(X_BAD, Y_BAD).forget(X_BAD, Y_BAD)
    calibrated = small().calibrate(X_BAD)
    for classifier in (emptied, calibrated, small()):
        for call in (classifier.predict, classifier.decision_function):
            with pytest.raises(NotFittedError):
                call(X_BAD)
        with pytest.raises(ValueError):
            classifier.forget(X_BAD, Y_BAD)
    with pytest.raises(NotFittedError, match="calibrate"):
        small().merge(emptied)
    assert emptied.partial_fit(X_BAD, [0, 1] * 3).digest() == calibrated.partial_fit(X_BAD, [0, 1] * 3).digest()


def test_forgetting_what_was_never_learned_has_its_own_error() -> None:
    with pytest.raises(NotLearnedError):
        small().fit(X_BAD, Y_BAD).forget(X_BAD, Y_BAD[::-1])


def test_scikit_learn_loads_only_with_the_estimator() -> None:
    loaded = "print('sklearn' in sys.modules)"
    code = f"import sys, acil, acil.cli, acil.learner; {loaded}; acil.AnalyticClassifier; {loaded}"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_refused_call_leaves_a_fitted_classifier_as_it_was() -> None:
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    classifier = AnalyticClassifier(buffer_size=8).fit(X, y)
    before, digest = dict(vars(classifier)), classifier.digest()
    wide = np.ones((4, 5))
    with pytest.raises(ValueError, match="labels"):
        classifier.fit(wide, np.array(["a", 1, "b", 2], dtype=object))
    classifier.set_params(buffer_size=-1)
    for call in (lambda: classifier.fit(wide, [0, 1, 0, 1]), lambda: classifier.calibrate(wide)):
        with pytest.raises(ValueError, match="must be"):
            call()
    classifier.set_params(buffer_size=8)
    assert vars(classifier) == before
    assert classifier.digest() == digest
    assert classifier.predict(X).shape == (20,)


def test_a_first_batch_that_is_refused_leaves_a_classifier_unfitted() -> None:
    classifier = AnalyticClassifier(buffer_size=8)
    with pytest.raises(ValueError, match="does not list"):
        classifier.partial_fit([[0.0, 1.0], [1.0, 2.0]], [0, 1], classes=[0])
    assert not hasattr(classifier, "n_features_in_")
