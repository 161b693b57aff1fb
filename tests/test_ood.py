"""Scores against their formulas, metrics against counting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from acil.ood import energy, evaluate_ood, expected_calibration_error, max_cosine, max_logit, msp, odin, roc_curve


def logits(n: int = 40, classes: int = 5) -> Tensor:
    return 3 * torch.randn(n, classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_scores_are_their_formulas() -> None:
    z = logits().numpy()
    softmax = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert np.allclose(msp(logits()), 1 - softmax.max(axis=1))
    assert np.allclose(max_logit(logits()), -z.max(axis=1))
    assert np.allclose(max_cosine(logits()), -z.max(axis=1) / np.sqrt((z**2).sum(axis=1)))
    assert np.allclose(energy(logits()), -np.log(np.exp(z).sum(axis=1)))
    assert np.allclose(energy(logits(), temperature=2.0), -2 * np.log(np.exp(z / 2).sum(axis=1)))


@given(seed=st.integers(0, 1_000), scale=st.floats(1e-6, 1e6), classes=st.integers(1, 50))
@settings(deadline=None, max_examples=40)
def test_the_largest_cosine_is_of_directions_alone(seed: int, scale: float, classes: int) -> None:
    z = torch.randn(20, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    cosine = -max_cosine(z)
    assert torch.allclose(max_cosine(scale * z), -cosine)
    assert bool((cosine <= 1 + 1e-12).all())
    # Where all K components of a unit vector are negative, the smallest in size is at most 1/sqrt(K).
    assert bool((cosine >= torch.where(z.max(dim=1).values > 0, 0.0, -1 / classes**0.5) - 1e-12).all())
    assert torch.equal(max_cosine(torch.zeros(2, classes)), torch.zeros(2, dtype=torch.float64))


def test_surest_answers_are_told_apart() -> None:
    sure = torch.tensor([[20.0, 0.0], [30.0, 0.0], [40.0, 0.0]])
    assert msp(sure).unique().numel() == 3


def test_odin_takes_the_step_that_raises_the_largest_probability() -> None:
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).double()
    images = torch.rand(6, 3, 2, 2, dtype=torch.float64)
    expected = []
    for image in images:
        weight, bias = linear[1].weight.detach().numpy(), linear[1].bias.detach().numpy()
        flat = image.flatten().numpy()
        z = (weight @ flat + bias) / 10
        p = np.exp(z) / np.exp(z).sum()
        slope = (weight[p.argmax()] - p @ weight) / 10  # of the log of the largest probability
        moved = (weight @ (flat + 0.05 * np.sign(slope)) + bias) / 10
        expected.append(1 - (np.exp(moved) / np.exp(moved).sum()).max())
    assert np.allclose(odin(linear, images, temperature=10.0, epsilon=0.05), expected)
    assert np.allclose(odin(linear, images, temperature=1.0, epsilon=0.0), msp(linear(images).detach()))
    assert all(parameter.grad is None for parameter in linear.parameters())


def test_odin_tells_logits_apart_that_differ_little_among_many() -> None:
    """Outputs of a regression lie in 0..1; divided by 1000, their probabilities agree in the first six digits."""
    classes = 1_000
    z = torch.rand(500, classes, generator=torch.Generator().manual_seed(0))
    scaled = z.double().numpy() / 1000
    expected = 1 - (np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)).max(axis=1)
    found = odin(nn.Flatten(), z[:, :, None, None], epsilon=0.0)
    assert found.dtype == torch.float64
    assert np.allclose(found, expected, rtol=0, atol=1e-13)
    assert (found.argsort() == torch.from_numpy(expected).argsort()).double().mean() > 0.99


@given(scale=st.sampled_from([1e-3, 1.0, 1e3, 1e30]), shift=st.floats(-100, 100))
@settings(deadline=None, max_examples=40)
def test_scores_of_extreme_logits_are_finite_and_know_shifts(scale: float, shift: float) -> None:
    z = scale * logits()
    for score in (msp, max_logit, max_cosine, energy):
        assert bool(score(z).isfinite().all())
    moved = logits() + shift
    assert torch.allclose(msp(moved), msp(logits()))
    assert torch.allclose(energy(moved), energy(logits()) - shift)


@pytest.mark.parametrize("call", [
    lambda: energy(logits(), temperature=0),
    lambda: odin(nn.Identity(), logits(), temperature=-1),
    lambda: odin(nn.Identity(), logits(), epsilon=-0.1),
    lambda: evaluate_ood(torch.empty(0), torch.zeros(3)),
    lambda: evaluate_ood(torch.zeros(3), torch.tensor([0.0, float("nan")])),
    lambda: evaluate_ood(torch.zeros(3, 1), torch.zeros(3)),
    lambda: expected_calibration_error(torch.ones(3, 2) / 2, torch.zeros(3).long(), bins=0),
    lambda: expected_calibration_error(torch.empty(0, 2), torch.zeros(0).long()),
    lambda: expected_calibration_error(torch.full((3, 2), 1.5), torch.zeros(3).long()),
    lambda: expected_calibration_error(torch.ones(3, 2), torch.zeros(3).long()),
    lambda: expected_calibration_error(torch.ones(3, 2) / 2, torch.full((3,), 2)),
    lambda: expected_calibration_error(torch.ones(3, 2) / 2, torch.zeros(2).long()),
    lambda: roc_curve(torch.zeros(3), torch.empty(0)),
])  # fmt: skip
def test_bad_calls_are_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"must (be|have)"):
        call()


def test_probabilities_that_are_none_are_named() -> None:
    probabilities = torch.ones(3, 2) / 2
    probabilities[1, 0] = float("nan")
    with pytest.raises(ValueError, match=r"probabilities contain 1 values that are NaN"):
        expected_calibration_error(probabilities, torch.zeros(3).long())


scores = st.lists(st.integers(-5, 5), min_size=1, max_size=40)


@given(known=scores, foreign=scores)
@settings(deadline=None, max_examples=100)
def test_metrics_are_what_counting_gives(known: list[int], foreign: list[int]) -> None:
    metrics = evaluate_ood(torch.tensor(known, dtype=torch.float64), torch.tensor(foreign, dtype=torch.float64))
    pairs = [(f > k) + 0.5 * (f == k) for k in known for f in foreign]
    assert metrics.auroc == pytest.approx(np.mean(pairs))
    thresholds = [t for t in {*known, *foreign} if np.mean([k <= t for k in known]) >= 0.95]
    assert metrics.fpr95 == pytest.approx(min(np.mean([f <= t for f in foreign]) for t in thresholds))


@given(known=scores, foreign=scores)
@settings(deadline=None, max_examples=30)
def test_metrics_depend_on_the_order_of_scores_alone(known: list[int], foreign: list[int]) -> None:
    one, other = torch.tensor(known, dtype=torch.float64), torch.tensor(foreign, dtype=torch.float64)
    assert evaluate_ood(one, other) == evaluate_ood(torch.exp(one / 3), torch.exp(other / 3))


@given(known=scores, foreign=scores)
@settings(deadline=None, max_examples=100)
def test_areas_under_precision_and_recall_are_what_counting_gives(known: list[int], foreign: list[int]) -> None:
    metrics = evaluate_ood(torch.tensor(known, dtype=torch.float64), torch.tensor(foreign, dtype=torch.float64))
    assert metrics.aupr_out == pytest.approx(average_precision(foreign, known))
    assert metrics.aupr_in == pytest.approx(average_precision([-k for k in known], [-f for f in foreign]))


def average_precision(positive: list[int], negative: list[int]) -> float:
    """Mean over the positive samples of the precision among all that score at least as high."""
    precisions = []
    for score in positive:
        hits, misses = sum(p >= score for p in positive), sum(n >= score for n in negative)
        precisions.append(hits / (hits + misses))
    return float(np.mean(precisions))


@given(known=scores, foreign=scores)
@settings(deadline=None, max_examples=50)
def test_the_curve_passes_through_every_threshold(known: list[int], foreign: list[int]) -> None:
    curve = torch.stack(roc_curve(torch.tensor(known).double(), torch.tensor(foreign).double()), dim=1)
    shares = [[np.mean([f <= t for f in foreign]), np.mean([k <= t for k in known])] for t in {*known, *foreign}]
    assert np.allclose(curve, [[0, 0], *sorted(shares)])


def test_perfect_and_blind_scores_have_the_metrics_they_deserve() -> None:
    perfect = evaluate_ood(torch.arange(100.0), 200 + torch.arange(50.0))
    assert (perfect.fpr95, perfect.auroc) == (0.0, 1.0)
    assert (perfect.aupr_in, perfect.aupr_out) == pytest.approx((1.0, 1.0))
    generator = torch.Generator().manual_seed(0)
    blind = evaluate_ood(torch.rand(20_000, generator=generator), torch.rand(20_000, generator=generator))
    assert blind.fpr95 == pytest.approx(0.95, abs=0.01)
    assert blind.auroc == pytest.approx(0.5, abs=0.01)
    assert blind.aupr_in == pytest.approx(0.5, abs=0.02)


def test_calibration_error_is_the_weighted_gap() -> None:
    sure = torch.tensor([0.9] * 10 + [0.6] * 30)
    probabilities = torch.stack([sure, 1 - sure], dim=1)
    labels = torch.tensor([0] * 7 + [1] * 3 + [0] * 21 + [1] * 9)  # right in 7 of 10 and in 21 of 30
    expected = 0.25 * abs(0.9 - 0.7) + 0.75 * abs(0.6 - 0.7)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected, abs=1e-6)
