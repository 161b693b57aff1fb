"""Losses against their formulas in numpy, and what makes them robust."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acil.losses import (
    AEL,
    AGCE,
    AUL,
    GCE,
    LOSSES,
    MAE,
    NCE,
    RCE,
    SCE,
    ActivePassive,
    Focal,
    LogitClip,
    LogitNorm,
    PHuberCE,
    TaylorCE,
    clip_logits,
    create_loss,
    normalise_logits,
)

CLASSES = 10


def logits_and_labels(n: int = 64, scale: float = 3.0, classes: int = CLASSES) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    logits = scale * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (n,), generator=generator)


def probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return result


Formula = Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]


def of_label(formula: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Formula:
    return lambda p, y: formula(p[np.arange(len(y)), y])


def reverse_cross_entropy(p: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    log_truth = np.where(np.eye(p.shape[1])[y] == 1, 0.0, -4.0)
    result: NDArray[np.float64] = -(p * log_truth).sum(axis=1)
    return result


def normalised(p: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = -np.log(p[np.arange(len(y)), y]) / -np.log(p).sum(axis=1)
    return result


def absolute_error(p: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.abs(p - np.eye(p.shape[1])[y]).sum(axis=1)
    return result


def huberised(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(p > 0.1, -np.log(p), -10 * p + np.log(10) + 1)


CASES = [
    ("ce", None, of_label(lambda p: -np.log(p))),
    ("mae", MAE(), absolute_error),
    ("gce", GCE(), of_label(lambda p: (1 - p**0.7) / 0.7)),
    ("rce", RCE(), reverse_cross_entropy),
    ("sce", SCE(), lambda p, y: -0.5 * np.log(p[np.arange(len(y)), y]) + reverse_cross_entropy(p, y)),
    ("taylor-ce", TaylorCE(), of_label(lambda p: (1 - p) + (1 - p) ** 2 / 2)),
    ("phuber-ce", PHuberCE(), of_label(huberised)),
    ("focal", Focal(), of_label(lambda p: -((1 - p) ** 2) * np.log(p))),
    ("nce", NCE(), normalised),
    ("agce", AGCE(), of_label(lambda p: (7**1.5 - (6 + p) ** 1.5) / 1.5)),
    ("aul", AUL(), of_label(lambda p: ((5.5 - p) ** 3 - 4.5**3) / 3)),
    ("ael", AEL(), of_label(lambda p: np.exp(-p / 2.5))),
    ("nce+mae", None, lambda p, y: normalised(p, y) + absolute_error(p, y)),
    ("nce+rce", None, lambda p, y: normalised(p, y) + reverse_cross_entropy(p, y)),
    (
        "nce+agce",
        None,
        lambda p, y: normalised(p, y) + 4 * (7**1.5 - (6 + p[np.arange(len(y)), y]) ** 1.5) / 1.5,
    ),
    (
        "nce+aul",
        None,
        lambda p, y: normalised(p, y) + 4 * ((6.3 - p[np.arange(len(y)), y]) ** 1.5 - 5.3**1.5) / 1.5,
    ),
]
NAMES = [name for name, _, _ in CASES]


def test_every_loss_has_a_formula_here() -> None:
    assert set(NAMES) == set(LOSSES)


@pytest.mark.parametrize(("name", "given_loss", "formula"), CASES, ids=NAMES)
def test_a_loss_is_its_formula(name: str, given_loss: torch.nn.Module | None, formula: Formula) -> None:
    logits, labels = logits_and_labels()
    expected = formula(probabilities(logits.numpy()), labels.numpy()).mean()
    assert float(create_loss(name)(logits, labels)) == pytest.approx(expected, rel=1e-10)
    if given_loss is not None:
        assert float(given_loss(logits, labels)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("loss", [MAE, GCE, RCE, SCE, TaylorCE, PHuberCE, Focal, NCE, AGCE, AUL, AEL])
def test_reductions_agree(loss: Callable[..., torch.nn.Module]) -> None:
    logits, labels = logits_and_labels()
    each = loss(reduction="none")(logits, labels)
    assert each.shape == labels.shape
    assert torch.allclose(loss(reduction="sum")(logits, labels), each.sum())
    assert torch.allclose(loss()(logits, labels), each.mean())


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_differences(name: str) -> None:
    logits, labels = logits_and_labels(n=5, classes=4)
    assert torch.autograd.gradcheck(lambda z: create_loss(name)(z, labels), logits.requires_grad_())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.0, 1e2, 1e4, 1e30])
def test_extreme_logits_give_finite_losses_and_gradients(name: str, scale: float) -> None:
    signs = torch.tensor([[1.0, -1.0, 0.5], [-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    logits = (scale * signs).requires_grad_()
    loss = create_loss(name)(logits, torch.tensor([0, 0, 2]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(("loss", "total"), [(MAE, 2 * (CLASSES - 1)), (RCE, 4 * (CLASSES - 1)), (NCE, 1)])
def test_symmetric_losses_sum_to_a_constant_over_labels(loss: Callable[..., torch.nn.Module], total: float) -> None:
    logits, _ = logits_and_labels()
    sums = sum(loss(reduction="none")(logits, torch.full((len(logits),), label)) for label in range(CLASSES))
    assert torch.allclose(torch.as_tensor(sums), torch.full((len(logits),), float(total), dtype=torch.float64))


@pytest.mark.parametrize("name", ["mae", "gce", "rce", "taylor-ce", "phuber-ce", "nce", "agce", "aul", "ael"])
def test_what_a_wrong_label_can_cost_is_bounded(name: str) -> None:
    sure = torch.tensor([[1e4, 0.0, 0.0]])
    surer = torch.tensor([[1e8, 0.0, 0.0]])
    label = torch.tensor([1])
    assert float(create_loss(name)(surer, label)) == pytest.approx(float(create_loss(name)(sure, label)))


def test_limits_are_the_losses_they_interpolate() -> None:
    logits, labels = logits_and_labels()
    cross_entropy = torch.nn.functional.cross_entropy(logits, labels)
    assert torch.allclose(GCE(q=1e-9)(logits, labels), cross_entropy)
    assert torch.allclose(GCE(q=1.0)(logits, labels), MAE()(logits, labels) / 2)
    assert torch.allclose(Focal(gamma=0)(logits, labels), cross_entropy)
    assert torch.allclose(TaylorCE(order=1)(logits, labels), MAE()(logits, labels) / 2)
    near = 0.1 * logits
    assert torch.allclose(TaylorCE(order=200)(near, labels), torch.nn.functional.cross_entropy(near, labels))


@pytest.mark.parametrize(
    "make",
    [
        lambda: GCE(q=0),
        lambda: GCE(q=1.5),
        lambda: SCE(alpha=-1),
        lambda: TaylorCE(order=0),
        lambda: PHuberCE(tau=1),
        lambda: Focal(gamma=0.5),
        lambda: AUL(a=1),
        lambda: AGCE(a=0),
        lambda: AEL(a=float("nan")),
        lambda: MAE(reduction="average"),
        lambda: ActivePassive(NCE(), MAE(), alpha=0),
        lambda: LogitClip(tau=0),
        lambda: LogitClip(p=3),
        lambda: LogitClip(tau=1e39),
        lambda: LogitNorm(tau=float("inf")),
        lambda: LogitNorm(tau=1e-39),
        lambda: create_loss("cross-entropy"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], torch.nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"must be|there is no loss"):
        make()


def test_one_class_alone_cannot_be_normalised() -> None:
    with pytest.raises(ValueError, match="two classes"):
        NCE()(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("make", [LogitClip, LogitNorm])
@pytest.mark.parametrize("tau", [1e-6, 1e6])
def test_loss_and_gradient_are_finite_at_the_ends_of_tau(make: Callable[..., torch.nn.Module], tau: float) -> None:
    logits = torch.tensor([[1.0, 2, -3], [1e30, 0, 0], [0, 0, 0], [1e-30, 0, 0]], requires_grad=True)
    loss = make(tau=tau)(logits, torch.tensor([0, 1, 2, 0]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(3, 2), torch.zeros(3)),
        (torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)),
    ],
)
def test_shapes_and_dtypes_are_checked(logits: torch.Tensor, labels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="must be"):
        MAE()(logits, labels)


@given(
    rows=st.lists(st.lists(st.floats(-1e30, 1e30), min_size=4, max_size=4), min_size=1, max_size=5),
    tau=st.floats(0.05, 20),
    p=st.sampled_from([1.0, 2.0, float("inf")]),
)
@settings(deadline=None)
def test_clipped_logits_lie_in_the_ball_and_keep_their_direction(rows: list[list[float]], tau: float, p: float) -> None:
    logits = torch.tensor(rows, dtype=torch.float64)
    clipped = clip_logits(logits, tau, p)
    norms = torch.linalg.vector_norm(logits / 1e30, ord=p, dim=1) * 1e30
    assert (torch.linalg.vector_norm(clipped, ord=p, dim=1) <= tau * (1 + 1e-9)).all()
    inside = norms <= tau * (1 - 1e-9)
    assert torch.equal(clipped[inside], logits[inside])
    expected = logits * torch.clamp(tau / norms.clamp_min(1e-300), max=1)[:, None]
    assert torch.allclose(clipped, expected, rtol=1e-9, atol=1e-12)
    assert torch.allclose(clip_logits(clipped, tau, p), clipped)


@given(scale=st.sampled_from([0.0, 1e-3, 1.0, 1e3, 1e30]), tau=st.floats(0.1, 8), label=st.integers(0, 9))
@settings(deadline=None)
def test_clipped_cross_entropy_is_bounded_and_its_gradient_finite(scale: float, tau: float, label: int) -> None:
    logits = (scale * logits_and_labels(n=20)[0].float()).requires_grad_()
    labels = torch.full((20,), label)
    losses = LogitClip(torch.nn.CrossEntropyLoss(reduction="none"), tau=tau)(logits, labels)
    reach = tau * math.sqrt(CLASSES / (CLASSES - 1))
    assert (losses >= math.log1p((CLASSES - 1) * math.exp(-reach)) - 1e-5).all()
    assert (losses <= math.log1p((CLASSES - 1) * math.exp(reach)) + 1e-5).all()
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_the_bounds_of_clipped_cross_entropy_are_reached(tau: float) -> None:
    logits = torch.full((1, CLASSES), -1.0, dtype=torch.float64)
    logits[0, 3] = CLASSES - 1
    reach = tau * math.sqrt(CLASSES / (CLASSES - 1))
    label = torch.tensor([3])
    assert float(LogitClip(tau=tau)(1e6 * logits, label)) == pytest.approx(math.log1p(9 * math.exp(-reach)))
    assert float(LogitClip(tau=tau)(-1e6 * logits, label)) == pytest.approx(math.log1p(9 * math.exp(reach)))


@pytest.mark.parametrize("name", NAMES)
def test_a_wide_ball_changes_no_loss_and_no_gradient(name: str) -> None:
    logits, labels = logits_and_labels()
    plain, clipped = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    create_loss(name)(plain, labels).backward()
    LogitClip(create_loss(name), tau=1e6)(clipped, labels).backward()
    assert plain.grad is not None
    assert clipped.grad is not None
    assert torch.equal(plain.grad, clipped.grad)


@pytest.mark.parametrize("make", [lambda: LogitClip(tau=1.0), lambda: LogitNorm(tau=0.5)])
def test_gradients_of_bounded_logits_are_orthogonal_to_them(make: Callable[[], torch.nn.Module]) -> None:
    logits, labels = logits_and_labels()
    logits = logits.requires_grad_()
    make()(logits, labels).backward()
    assert logits.grad is not None
    assert torch.allclose((logits.grad * logits).sum(dim=1), torch.zeros(len(logits), dtype=torch.float64), atol=1e-7)
    assert torch.autograd.gradcheck(lambda z: make()(z, labels), logits)


def test_normalised_logits_are_those_of_the_paper_whatever_their_scale() -> None:
    logits, labels = logits_and_labels()
    expected = logits / (0.04 * (logits.norm(dim=1, keepdim=True) + 1e-7))
    assert torch.allclose(normalise_logits(logits, 0.04), expected, rtol=1e-12)
    assert torch.allclose(LogitNorm()(logits, labels), LogitNorm()(1e20 * logits, labels))
    assert float(LogitNorm()(0 * logits, labels)) == pytest.approx(math.log(CLASSES))


def test_normalised_cross_entropy_has_its_lower_bound() -> None:
    best = torch.full((1, CLASSES), -1 / (CLASSES - 1), dtype=torch.float64)
    best[0, 0] = 1.0
    for tau in (0.2, 1.0):
        bound = math.log1p((CLASSES - 1) * math.exp(-math.sqrt(CLASSES / (CLASSES - 1)) / tau))
        assert float(LogitNorm(tau=tau)(best, torch.tensor([0]))) == pytest.approx(bound, rel=1e-5)
        logits, labels = logits_and_labels()
        losses = LogitNorm(torch.nn.CrossEntropyLoss(reduction="none"), tau=tau)(logits, labels)
        assert (losses >= bound * (1 - 1e-5)).all()
        assert bound >= math.log1p((CLASSES - 1) * math.exp(-2 / tau))


@pytest.mark.parametrize("transform", [lambda z: clip_logits(z, 1.0), lambda z: normalise_logits(z, 0.04)])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_extreme_logits_are_transformed_with_finite_gradients(
    transform: Callable[[torch.Tensor], torch.Tensor], scale: float
) -> None:
    logits = (scale * torch.tensor([[1.0, -2.0, 0.0], [0.0, 0.0, 0.0]])).requires_grad_()
    transformed = transform(logits)
    (transformed * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert transformed.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_half_precision_is_computed_in_single() -> None:
    logits = torch.tensor([[6e4, 6e4, -6e4]], dtype=torch.float16)
    assert clip_logits(logits, 1.0).dtype == torch.float32
    assert torch.allclose(clip_logits(logits, 1.0), torch.tensor([[1.0, 1.0, -1.0]]) / math.sqrt(3))
    assert normalise_logits(logits, 1.0).isfinite().all()
