"""Discriminant analysis from integer moments, against its textbook form in numpy and against scikit-learn's."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from acil import DiscriminantHead, ExactHead
from acil.errors import IllConditionedWarning, SingularMomentsError

GAMMA = 1e-3


def blobs(classes: int, per_class: list[int], dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Gaussian classes of one covariance; the last feature is constant, so that fitted values sum up to 1."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    spread = rng.normal(size=(dim, dim)) / np.sqrt(dim)
    rows = 2 * rng.normal(size=(classes, dim))[labels] + rng.normal(size=(len(labels), dim)) @ spread
    rows = np.hstack([rows, np.ones((len(rows), 1))])
    return torch.as_tensor(rows, dtype=torch.float32), torch.as_tensor(labels)


def textbook(rows: np.ndarray, labels: np.ndarray, tested: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Log posteriors with equal priors, up to a constant for each row; and the part of them that every row shares."""
    means = np.stack([rows[labels == label].mean(axis=0) for label in np.unique(labels)])
    centred = rows - means[np.searchsorted(np.unique(labels), labels)]
    directions = np.linalg.solve(centred.T @ centred + gamma * np.eye(rows.shape[1]), means.T) * len(rows)
    constants = (means * directions.T).sum(axis=1) / 2
    scores = tested @ directions - constants
    return scores - scores.mean(axis=1, keepdims=True), constants - constants.mean()


def quantised(head: ExactHead, rows: Tensor) -> np.ndarray:
    return float(head.quantizer.scale) * head.quantizer(rows).double().numpy()


def fitted_values(rows: Tensor, labels: Tensor, tested: np.ndarray) -> np.ndarray:
    """Ridge regression's values for each class, (M, K)."""
    head = ExactHead(rows.shape[1], gamma=GAMMA, bits=16)
    head.learn(rows, labels)
    return head(torch.as_tensor(tested)).numpy()


@settings(max_examples=25, deadline=None)
@given(
    classes=st.integers(2, 6),
    dim=st.integers(1, 8),
    seed=st.integers(0, 2**16),
    data=st.data(),
)
def test_logits_are_those_of_the_textbook(classes: int, dim: int, seed: int, data: st.DataObject) -> None:
    per_class = data.draw(st.lists(st.integers(5, 40), min_size=classes, max_size=classes))
    rows, labels = blobs(classes, per_class, dim, seed)
    head = DiscriminantHead(dim + 1, gamma=GAMMA, bits=16)
    head.learn(rows, labels)
    learned = quantised(head, rows)
    wanted, constants = textbook(learned, labels.numpy(), learned, GAMMA)
    logits = head(torch.as_tensor(learned)).numpy()
    shrunk = 1 - fitted_values(rows, labels, learned).sum(axis=1, keepdims=True)  # gamma keeps fitted sums below 1
    assert np.abs(shrunk).max() <= 1e-2
    assert np.allclose(logits, wanted + shrunk * constants, rtol=1e-6, atol=1e-6 * np.abs(wanted).max())


def test_it_classifies_as_scikit_learn_does() -> None:
    rows, labels = blobs(5, [60] * 5, 6, seed=3)
    head = DiscriminantHead(7, gamma=GAMMA, bits=16)
    head.learn(rows, labels)
    learned = quantised(head, rows)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", priors=[0.2] * 5).fit(learned[:, :-1], labels.numpy())
    assert (head.predict(rows).numpy() == theirs.predict(learned[:, :-1])).mean() > 0.99


def test_a_class_between_two_others_is_not_masked() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    rows = torch.stack([labels + 0.1 * torch.randn(300, generator=generator), torch.ones(300)], dim=1)
    ridge, discriminant = ExactHead(2, gamma=GAMMA), DiscriminantHead(2, gamma=GAMMA)
    for head in (ridge, discriminant):
        head.learn(rows, labels)
    middle = labels == 1
    assert (ridge.predict(rows)[middle] == 1).float().mean() < 0.5
    assert (discriminant.predict(rows) == labels).float().mean() > 0.98


def test_moments_and_digest_are_those_of_ridge_regression() -> None:
    rows, labels = blobs(4, [20, 5, 30, 9], 5, seed=1)
    ridge, discriminant = ExactHead(6), DiscriminantHead(6)
    for head in (ridge, discriminant):
        head.learn(rows, labels)
    assert ridge.digest() == discriminant.digest()
    assert not torch.allclose(ridge.weight, discriminant.weight)


def test_incremental_equals_joint_and_forgetting_undoes() -> None:
    rows, labels = blobs(4, [20, 5, 30, 9], 5, seed=2)
    joint = DiscriminantHead(6, gamma="auto")
    joint.calibrate(rows)
    phased = joint.fresh()
    assert isinstance(phased, DiscriminantHead)
    joint.learn(rows, labels)
    for part in torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).split(7):
        phased.learn(rows[part], labels[part])
    assert torch.equal(phased.weight, joint.weight)
    phased.forget(rows[labels == 2], labels[labels == 2])
    rest = joint.fresh()
    rest.learn(rows[labels != 2], labels[labels != 2])
    assert torch.equal(phased.weight, rest.weight)


@pytest.mark.parametrize("samples", [1, 4])
def test_a_single_class_is_predicted(samples: int) -> None:
    head = DiscriminantHead(3)
    head.learn(torch.rand(samples, 3), torch.full((samples,), 7))
    assert head.predict(torch.rand(2, 3)).tolist() == [7, 7]


def exact_weight(head: DiscriminantHead) -> mp.matrix:
    """The weights that the head's integers have, to 60 digits, by the scatter within classes itself."""
    scale, sizes = mp.mpf(float(head.quantizer.scale)), head.counts.tolist()
    moments = head.moments.autocorrelation.triu()
    total = scale**2 * mp.matrix((moments + moments.triu(1).t()).tolist())
    means = mp.diag([1 / mp.mpf(size) for size in sizes]) * scale * mp.matrix(head.moments.cross_correlation.tolist())
    within = total - means.T * mp.diag(sizes) * means + mp.mpf(head.chosen_gamma) * mp.eye(head.dim)
    directions = mp.inverse(within) * means.T  # (d, K)
    # The constants, half the means' own discriminants, are carried by directions whose fitted values are constant:
    # (S + gamma I)^-1 C^T 1, for samples that the ridge fits.
    ridge = mp.inverse(total + mp.mpf(head.chosen_gamma) * mp.eye(head.dim)) * means.T * mp.diag(sizes)
    ones = ridge * mp.matrix([1] * len(sizes))
    weight = mp.matrix(head.dim, len(sizes))
    for k in range(len(sizes)):
        constant = (means[k, :] * directions[:, k])[0] / 2
        weight[:, k] = sum(sizes) * (directions[:, k] - constant * ones)
    mean = sum((weight[:, k] for k in range(len(sizes))), mp.zeros(head.dim, 1)) / len(sizes)
    for k in range(len(sizes)):
        weight[:, k] -= mean
    return weight


@pytest.mark.parametrize("gamma", [1.0, 1e-4, 1e-8, 1e-10, 1e-12])
@pytest.mark.parametrize("n", [8, 20, 60])
def test_the_estimated_error_holds_where_the_fit_is_near_perfect(gamma: float, n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    labels = torch.arange(n) % 8
    features = torch.eye(8)[labels] + 1e-3 * torch.rand(n, 8, generator=generator)
    head = DiscriminantHead(8, gamma=gamma)
    head.learn(features, labels)
    with warnings.catch_warnings(record=True) as told, mp.workdps(60):
        warnings.simplefilter("always")
        found, expected = mp.matrix(head.weight.tolist()), exact_weight(head)
        error = float(mp.mnorm(found - expected, "f") / mp.mnorm(expected, "f"))
    estimate = head._solution().error
    assert error <= estimate <= 1_000 * error + 1e-12
    assert bool(told) == (estimate > 1e-6)
    assert all(issubclass(one.category, IllConditionedWarning) for one in told)


def test_a_fit_that_is_perfect_to_the_last_digit_is_refused_with_a_sentence() -> None:
    head = DiscriminantHead(1, gamma=1e-20)
    head.learn(torch.ones(1, 1), torch.tensor([3]))
    with pytest.raises(SingularMomentsError, match="use a larger gamma"):
        _ = head.weight
