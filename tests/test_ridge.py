"""The solve against numpy, its errors and warnings, automatic gamma, leverage."""

import math
import threading
import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from acil import ExactHead, IllConditionedWarning, SingularMomentsError
from acil.head.cholesky import CholeskyFactor
from acil.head.ridge import CLASSIFIERS_SHARE, choose_gamma, cross_validation_error


def samples(rows: int, dim: int, classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    centres = torch.randn(classes, dim, generator=generator)
    return torch.relu(centres[labels] + torch.randn(rows, dim, generator=generator)), labels


def learned(rows: int, dim: int, gamma: float = 0.1, seed: int = 0) -> ExactHead:
    head = ExactHead(dim, gamma)
    head.learn(*samples(rows, dim, seed=seed))
    return head


def quantised(head: ExactHead, features: torch.Tensor) -> np.ndarray:
    return head.quantizer(features).double().numpy() * float(head.quantizer.scale)


def positive_definite(dim: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(dim, 2 * dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rows @ rows.t() / dim + 0.1 * torch.eye(dim, dtype=torch.float64)


@pytest.mark.parametrize("dim", [1, 2, 7, 64, 300])
def test_the_factor_reads_only_the_upper_triangle_and_solves(dim: int) -> None:
    matrix = positive_definite(dim)
    unused = torch.full_like(matrix, torch.nan).tril(-1)
    factor = CholeskyFactor(torch.triu(matrix) + unused)
    assert factor.info == 0
    assert np.allclose(factor.lower.tril().numpy(), np.linalg.cholesky(matrix.numpy()))
    right = torch.randn(dim, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert np.allclose(factor.solve(right).numpy(), np.linalg.solve(matrix.numpy(), right.numpy()))
    inverse = np.linalg.inv(matrix.numpy())
    assert np.allclose(factor.whiten(right).square().sum(0).numpy(), np.einsum("ik,ij,jk->k", right, inverse, right))
    assert factor.inverse_trace() == pytest.approx(np.trace(inverse))


@pytest.mark.parametrize("dim", [65, 200, 301])
def test_a_matrix_too_large_for_lapack_is_factorised_by_halves(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acil.head.cholesky.LARGEST", 64)
    matrix = positive_definite(dim)
    assert np.allclose(CholeskyFactor(matrix.clone()).lower.tril().numpy(), np.linalg.cholesky(matrix.numpy()))
    matrix[dim - 1, dim - 1] = -1.0
    assert CholeskyFactor(matrix).info == dim


def test_the_factor_lies_in_the_memory_of_the_matrix() -> None:
    matrix = positive_definite(50)
    assert CholeskyFactor(matrix).lower.data_ptr() == matrix.data_ptr()


@pytest.mark.parametrize("step", ["factorise", "solve", "whiten", "trace"])
def test_other_threads_go_on_meanwhile(step: str) -> None:
    matrix = positive_definite(2_500)
    factor = CholeskyFactor(matrix.clone())
    right = torch.ones(2_500, 1_500, dtype=torch.float64)
    steps: dict[str, Callable[[], object]] = {
        "factorise": lambda: CholeskyFactor(matrix),
        "solve": lambda: factor.solve(right),
        "whiten": lambda: factor.whiten(right),
        "trace": factor.inverse_trace,
    }
    thread = threading.Thread(target=steps[step])
    turns = [time.perf_counter()]
    thread.start()
    while thread.is_alive():
        time.sleep(0.001)
        turns.append(time.perf_counter())
    assert np.diff(turns).max() < 0.7 * (turns[-1] - turns[0])  # one turn takes it all where the lock is held


def test_a_matrix_that_is_not_positive_definite_is_reported() -> None:
    assert CholeskyFactor(torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)).info == 2


@pytest.mark.parametrize("minor", [1, 96, 97, 250, 300])
def test_the_first_minor_that_is_not_positive_definite_is_named(minor: int) -> None:
    matrix = positive_definite(300)
    matrix[minor - 1, minor - 1] = -1.0
    assert CholeskyFactor(matrix).info == minor


@given(rows=st.integers(1, 60), dim=st.integers(1, 40), gamma=st.sampled_from([1e-3, 0.1, 10.0]))
@settings(max_examples=25, deadline=None)
def test_weights_are_those_of_scikit_learn(rows: int, dim: int, gamma: float) -> None:
    head = learned(rows, dim, gamma)
    features, labels = samples(rows, dim)
    one_hot = (labels[:, None] == head.classes).double().numpy()
    oracle = Ridge(alpha=gamma, fit_intercept=False, solver="cholesky").fit(quantised(head, features), one_hot)
    assert np.allclose(head.weight.numpy(), np.reshape(oracle.coef_, (-1, dim)).T, rtol=1e-6, atol=1e-9)


def test_equal_moments_give_equal_weights_bit_for_bit() -> None:
    assert torch.equal(learned(400, 300).weight, learned(400, 300).weight)


def test_an_ill_conditioned_solve_warns_with_a_gamma_that_does_not() -> None:
    features, labels = samples(30, 40)
    head = ExactHead(40, 1e-8)
    head.learn(features, labels)
    with pytest.warns(IllConditionedWarning, match="relative error of") as caught:
        _ = head.weight
    enough = float(str(caught[0].message).split("use a gamma of ")[1].split()[0])
    better = ExactHead(40, enough)
    better.learn(features, labels)
    assert torch.isfinite(better.weight).all()


def test_the_estimated_error_is_near_the_true_one() -> None:
    features, labels = samples(30, 12)
    features[:, 1] = features[:, 0]  # a condition number of trace / gamma
    head = ExactHead(12, 1e-9)
    head.learn(features, labels)
    with pytest.warns(IllConditionedWarning):
        weight = head.weight
    moments, scale = head.moments, float(head.quantizer.scale)
    upper = moments.autocorrelation.triu().numpy()
    matrix = (upper + np.triu(upper, 1).T).astype(np.longdouble) + np.eye(12) * np.longdouble(
        head.chosen_gamma / scale**2
    )
    right = moments.cross_correlation.t().numpy().astype(np.longdouble)
    for row in range(12):  # Gaussian elimination: numpy's solvers know no longdouble
        factors = matrix[:, row] / matrix[row, row]
        factors[row] = 0
        matrix, right = matrix - factors[:, None] * matrix[row], right - factors[:, None] * right[row]
    exact = right / np.diag(matrix)[:, None] / scale
    error = float(np.linalg.norm(weight.numpy() - exact) / np.linalg.norm(exact))
    assert head._solution().error / 1e4 <= error <= head._solution().error


def test_no_gamma_at_all_is_refused_with_one_that_works() -> None:
    head = ExactHead(40, 1e-300)
    head.learn(*samples(30, 40))
    with pytest.raises(SingularMomentsError, match="gamma='auto'"):
        _ = head.weight


@pytest.mark.parametrize(("rows", "dim"), [(200, 20), (50, 80), (500, 60)])
@pytest.mark.parametrize("gamma", [0.01, 1.0, 100.0])
def test_cross_validation_error_is_golub_s_formula(rows: int, dim: int, gamma: float) -> None:
    head = learned(rows, dim)
    features, labels = samples(rows, dim)
    phi = quantised(head, features)
    one_hot = (labels[:, None] == head.classes).double().numpy()
    hat = phi @ np.linalg.solve(phi.T @ phi + gamma * np.eye(dim), phi.T)
    residual = one_hot - hat @ one_hot
    expected = (residual**2).sum() / rows / (1 - np.trace(hat) / rows) ** 2
    found = cross_validation_error(head.moments, float(head.quantizer.scale), gamma)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_automatic_gamma_follows_the_best_of_a_fine_grid(seed: int) -> None:
    head = learned(300, 60, seed=seed)
    scale = float(head.quantizer.scale)
    grid = 10 ** np.arange(-3, 5, 0.1)
    best = grid[np.argmin([cross_validation_error(head.moments, scale, float(gamma)) for gamma in grid])]
    minimiser = choose_gamma(head.moments, scale) / CLASSIFIERS_SHARE
    assert abs(math.log10(minimiser / best)) < 0.5
    error, least = (cross_validation_error(head.moments, scale, float(gamma)) for gamma in (minimiser, best))
    assert error <= least * 1.05


@given(rows=st.integers(1, 30), dim=st.integers(1, 12), zero=st.booleans())
@settings(max_examples=30, deadline=None)
def test_automatic_gamma_always_solves(rows: int, dim: int, zero: bool) -> None:
    features, labels = samples(rows, dim)
    head = ExactHead(dim, "auto")
    head.learn(features * 0 if zero else features, labels)
    assert head.chosen_gamma > 0
    assert torch.isfinite(head.weight).all()


def test_automatic_gamma_does_not_depend_on_the_way_the_moments_came_about() -> None:
    features, labels = samples(200, 30)
    joint, phased = ExactHead(30, "auto"), ExactHead(30, "auto")
    joint.calibrate(features)
    phased.calibrate(features)
    joint.learn(features, labels)
    for part in torch.randperm(200, generator=torch.Generator().manual_seed(0)).split(17):
        phased.learn(features[part], labels[part])
        _ = phased.weight
    assert phased.chosen_gamma == joint.chosen_gamma
    assert torch.equal(phased.weight, joint.weight)


def test_automatic_gamma_never_warns_even_where_the_least_error_would() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(400, 1, generator=generator)  # smooth kernels of one variable: a spectrum that falls steeply
    features = torch.exp(-((points - torch.linspace(0, 1, 60)) ** 2))
    head = ExactHead(60, "auto", bits=16)
    head.learn(features, (points[:, 0] * 3).long())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.isfinite(head.weight).all()
    head.gamma = 0.01 * head.chosen_gamma
    with pytest.warns(IllConditionedWarning):
        _ = head.weight


def test_automatic_gamma_needs_something_learned() -> None:
    with pytest.raises(ValueError, match="call learn first"):
        _ = ExactHead(4, "auto").chosen_gamma


def test_leverage_is_the_quadratic_form_and_sums_up_to_the_degrees_of_freedom() -> None:
    head = learned(100, 20, gamma=1.0)
    features, _ = samples(100, 20)
    phi = quantised(head, features)
    inverse = np.linalg.inv(phi.T @ phi + np.eye(20))
    expected = np.einsum("ni,ij,nj->n", phi, inverse, phi)
    found = head.leverage(torch.from_numpy(phi))
    assert np.allclose(found.numpy(), expected)
    assert float(found.sum()) == pytest.approx(20 - np.trace(inverse))


def test_leverage_is_larger_for_what_was_never_seen() -> None:
    features, labels = samples(200, 30)
    features[:, 15:] = 0
    head = ExactHead(30)
    head.learn(features, labels)
    known = head.leverage(features)
    foreign = head.leverage(features.flip(1))
    assert foreign.median() > 10 * known.max()


@pytest.mark.parametrize(
    "bad", [torch.zeros(3, 4), torch.full((2, 5), torch.nan), torch.zeros(3, 5, dtype=torch.int64)]
)
def test_leverage_refuses_what_is_no_feature(bad: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="features"):
        learned(20, 5).leverage(bad)
    with pytest.raises(ValueError, match="call learn first"):
        ExactHead(5).leverage(torch.zeros(1, 5))
