"""How far weights are from joint solutions in rational arithmetic; what benchmarks/numerical_error.py rests on."""

import importlib.util
import math
import warnings
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from acil import ExactHead, IllConditionedWarning, RecursiveHead
from acil.head.ridge import TOLERATED_ERROR, solve_ridge

SAMPLES, DIM, CLASSES = 60, 12, 3
Rational = list[list[Fraction]]


@pytest.fixture(scope="module")
def ridge_solutions() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks" / "ridge_solutions.py"
    spec = importlib.util.spec_from_file_location("ridge_solutions", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def samples(rows: int = SAMPLES) -> tuple[Tensor, Tensor]:
    """Rectified normal features of values that float32 holds, in the order of their classes."""
    generator = torch.Generator().manual_seed(0)
    labels, _ = torch.sort(torch.arange(rows) % CLASSES)
    centres = torch.randn(CLASSES, DIM, generator=generator)
    return torch.relu(centres[labels] + torch.randn(rows, DIM, generator=generator)).double(), labels


def twice(features: Tensor) -> Tensor:
    """The first half of the features, two times."""
    return features[:, : DIM // 2].repeat(1, 2)


def joint(rows: Tensor, labels: Tensor, gamma: float, scale: float = 1.0) -> Rational:
    """The ridge solution of ``scale * rows`` by elimination, without any rounding."""
    exact = [[Fraction(value) * Fraction(scale) for value in row] for row in rows.tolist()]
    columns = list(zip(*exact, strict=True))
    system = [[sum(a * b for a, b in zip(left, right, strict=True)) for right in columns] for left in columns]
    for place, line in enumerate(system):
        line[place] += Fraction(gamma)
        line += [sum(a for a, b in zip(columns[place], labels.tolist(), strict=True) if b == k) for k in range(CLASSES)]
    for place, pivot in enumerate(system):
        pivot[:] = [value / pivot[place] for value in pivot]
        for other in system:
            if other is not pivot:
                factor = other[place]
                other[:] = [value - factor * above for value, above in zip(other, pivot, strict=True)]
    return [line[len(columns) :] for line in system]


def relative_error(weight: Tensor, reference: Rational) -> float:
    pairs = [
        (Fraction(value), exact)
        for row, line in zip(weight.tolist(), reference, strict=True)
        for value, exact in zip(row, line, strict=True)
    ]
    return math.sqrt(sum((value - exact) ** 2 for value, exact in pairs) / sum(exact**2 for _, exact in pairs))


def learned(head: ExactHead | RecursiveHead, features: Tensor, labels: Tensor, batches: int) -> Tensor:
    if isinstance(head, ExactHead):
        head.calibrate(features)
    for rows, targets in zip(features.chunk(batches), labels.chunk(batches), strict=True):
        head.learn(rows, targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IllConditionedWarning)
        return head.weight


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("gamma", [1e-9, 1.0])
def test_the_error_of_the_exact_head_does_not_depend_on_batches(bits: int, gamma: float) -> None:
    features, labels = samples()
    at_once, *others = [
        learned(ExactHead(DIM, gamma, bits), twice(features), labels, batches) for batches in (1, 2, 12, SAMPLES)
    ]
    assert all(torch.equal(at_once, other) for other in others)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("gamma", [1e-9, 1e-6, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("trouble", ["none", "few samples", "every feature twice", "a feature always zero"])
def test_the_estimated_error_is_not_too_small_and_the_true_one_not_large(trouble: str, gamma: float, bits: int) -> None:
    features, labels = samples(DIM // 2 if trouble == "few samples" else SAMPLES)
    features = twice(features) if trouble == "every feature twice" else features
    if trouble == "a feature always zero":
        features[:, 0] = 0.0
    head = ExactHead(DIM, gamma, bits)
    weight = learned(head, features, labels, 1)
    scale = float(head.quantizer.scale)
    error = relative_error(weight, joint(head.quantizer(features), labels, gamma, scale))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimate = solve_ridge(head.moments, scale, gamma).error
    assert error <= 3 * estimate
    assert estimate <= 200 * max(error, 1e-16)
    assert bool(caught) == (estimate > TOLERATED_ERROR)


@pytest.mark.parametrize("batches", [1, 12, SAMPLES])
@pytest.mark.parametrize("gamma", [1e-6, 1.0])
def test_the_recursion_loses_digits_as_gamma_falls_and_no_more(gamma: float, batches: int) -> None:
    features, labels = samples()
    error = relative_error(
        learned(RecursiveHead(DIM, gamma), features, labels, batches), joint(features, labels, gamma)
    )
    largest = float(features.square().sum(dim=1).max())
    assert error <= 100 * torch.finfo(torch.float64).eps * max(1.0, largest / gamma)


@pytest.mark.parametrize("batches", [1, 12, SAMPLES])
def test_what_the_heads_are_compared_with_solves_the_same_problem(ridge_solutions: ModuleType, batches: int) -> None:
    features, labels = samples()
    exact = joint(features, labels, 1.0)
    for method in ridge_solutions.FLOATING:
        error = relative_error(ridge_solutions.floating(method, features, labels, 1.0, batches).double(), exact)
        assert error < (1e-4 if method.endswith("float32") else 1e-12), method


def test_a_method_without_a_solution_gives_none(ridge_solutions: ModuleType) -> None:
    features, labels = samples()
    assert ridge_solutions.floating("normal equations, float32", 1e4 * twice(features), labels, 1e-6, 1) is None


def test_the_reference_is_right_in_every_digit(ridge_solutions: ModuleType) -> None:
    flint = pytest.importorskip("flint")
    features, labels = samples()
    exact = joint(twice(features), labels, 1e-6, 0.3)
    enclosed = ridge_solutions.Reference(twice(features), labels, 0.3).weight(1e-6)
    for row, line in zip(enclosed.tolist(), exact, strict=True):
        for ball, value in zip(row, line, strict=True):
            assert ball.contains(flint.arb(flint.fmpq(value.numerator, value.denominator)))
            assert ball.rad() < 1e-35
    shifted = torch.tensor([[float(value) * (1 + 1e-9) for value in line] for line in exact], dtype=torch.float64)
    assert ridge_solutions.relative_error(shifted, enclosed) == pytest.approx(1e-9, rel=1e-3)
    assert math.isnan(ridge_solutions.relative_error(None, enclosed))
