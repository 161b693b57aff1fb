"""What ``numerical_error.py`` compares: the joint ridge solution in 50 digits, and ways to it in pieces."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from acil import ExactHead, RecursiveHead, SingularMomentsError
from acil.head.ridge import solve_ridge

if TYPE_CHECKING:
    from flint import arb_mat

DIGITS = 50

# Larger batches are split, as RecursiveHead does: a batch of n rows costs an n x n system.
MAX_ROWS = 1_024


class Reference:
    """Joint ridge solutions of ``scale * rows`` (n, d) and one-hot labels, in 50 digits with proven bounds."""

    def __init__(self, rows: Tensor, labels: Tensor, scale: float = 1.0) -> None:
        import flint

        flint.ctx.dps = DIGITS
        exact = flint.arb_mat(rows.tolist()) * flint.arb(scale)
        self._gram = exact.transpose() * exact
        self._targets = exact.transpose() * flint.arb_mat(one_hot(labels).tolist())

    def weight(self, gamma: float) -> arb_mat:
        """W (d, K) of ``(phi^T phi + gamma I) W = phi^T Y``."""
        system = self._gram * 1  # a copy
        for place in range(system.nrows()):
            system[place, place] += gamma
        return system.solve(self._targets)

    def weights(self, gammas: Sequence[float]) -> dict[float, arb_mat]:
        """``weight`` of each gamma."""
        return {gamma: self.weight(gamma) for gamma in gammas}


def relative_error(weight: Tensor | None, reference: arb_mat) -> float:
    """Frobenius norm of the difference over that of the reference."""
    from flint import arb_mat

    if weight is None or not torch.isfinite(weight).all():
        return math.nan
    difference = arb_mat(weight.double().tolist()) - reference
    squares = (sum(value**2 for value in matrix.entries()) for matrix in (difference, reference))
    return math.sqrt(float(next(squares) / next(squares)))


def one_hot(labels: Tensor) -> Tensor:
    """(n,) labels, of which none is left out, to (n, K) float64."""
    return torch.nn.functional.one_hot(labels).double()


def recursion(features: Tensor, labels: Tensor, gamma: float, batches: int, dtype: torch.dtype) -> Tensor:
    """The published recursion as it is written, in one precision: weights (d, K)."""
    rows, targets = features.to(dtype), one_hot(labels).to(dtype)
    inverse = torch.eye(rows.shape[1], dtype=dtype) / gamma
    weight = rows.new_zeros(rows.shape[1], targets.shape[1])
    size = min(math.ceil(len(rows) / batches), MAX_ROWS)
    for x, y in zip(torch.split(rows, size), torch.split(targets, size), strict=True):
        gain = torch.linalg.solve(torch.eye(len(x), dtype=dtype) + x @ inverse @ x.t(), x @ inverse)
        inverse = inverse - inverse @ x.t() @ gain
        weight = weight + inverse @ x.t() @ (y - x @ weight)
    return weight


def normal_equations(features: Tensor, labels: Tensor, gamma: float, batches: int, dtype: torch.dtype) -> Tensor:
    """Gram matrices of batches added up and solved by Cholesky, in one precision: weights (d, K)."""
    rows, targets = features.to(dtype), one_hot(labels).to(dtype)
    gram = torch.eye(rows.shape[1], dtype=dtype) * gamma
    right = rows.new_zeros(rows.shape[1], targets.shape[1])
    for x, y in zip(rows.chunk(batches), targets.chunk(batches), strict=True):
        gram += x.t() @ x
        right += x.t() @ y
    return torch.cholesky_solve(right, torch.linalg.cholesky(gram))


def recursive_head(features: Tensor, labels: Tensor, gamma: float, batches: int) -> Tensor:
    """Weights (d, K) of ``RecursiveHead``."""
    head = RecursiveHead(features.shape[1], gamma)
    for x, y in zip(features.chunk(batches), labels.chunk(batches), strict=True):
        head.learn(x, y)
    return head.weight


FLOATING: dict[str, Callable[[Tensor, Tensor, float, int], Tensor]] = {
    "RecursiveHead": recursive_head,
    "normal equations, float64": partial(normal_equations, dtype=torch.float64),
    "recursion, float64": partial(recursion, dtype=torch.float64),
    "recursion, float32": partial(recursion, dtype=torch.float32),
    "normal equations, float32": partial(normal_equations, dtype=torch.float32),
}


EXACT = {"ExactHead, 8 bits": 8, "ExactHead, 16 bits": 16}


def exact_head(method: str, features: Tensor, labels: Tensor, batches: int) -> ExactHead:
    """An ``ExactHead`` by one of ``EXACT`` that has learned these samples; its scale is that of all of them."""
    head = ExactHead(features.shape[1], bits=EXACT[method])
    head.calibrate(features)
    for x, y in zip(features.chunk(batches), labels.chunk(batches), strict=True):
        head.learn(x, y)
    return head


def solved(head: ExactHead, gamma: float) -> tuple[Tensor | None, float]:
    """Weights (d, K) and their estimated relative error; None where the solve is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            solution = solve_ridge(head.moments, float(head.quantizer.scale), gamma)
        except SingularMomentsError:
            return None, math.nan
    return solution.weight, solution.error


def floating(method: str, features: Tensor, labels: Tensor, gamma: float, batches: int) -> Tensor | None:
    """Weights (d, K) by one of ``FLOATING``; None where it finds none."""
    try:
        return FLOATING[method](features, labels, gamma, batches)
    except (SingularMomentsError, torch.linalg.LinAlgError):
        return None
