"""One Cholesky factorisation, in the memory of the matrix itself."""

from __future__ import annotations

import torch
from torch import Tensor

# A matrix this small is factorised by PyTorch as a whole, larger ones by halves, in products at the machine's rate.
WHOLE = 1024

# Rows that are solved at a time: what a factorisation takes beside the matrix is this many.
ROWS = 4096

# Columns of a product at a time: few, so that little is computed above the diagonal.
COLUMNS = 512

# A triangle this small is inverted as a whole.
LEAF = 256


class CholeskyFactor:
    """The factor of a symmetric positive definite matrix ``M = L L^T``.

    On a CPU it takes the memory of a contiguous matrix, so that no second one is alive. Other threads go on meanwhile.

    Attributes:
        lower: (d, d) float64 with L in its lower triangle; what stands above it means nothing.
        info: 0, or the order of the first leading minor that is not positive definite; nothing else works then.
    """

    lower: Tensor
    info: int

    def __init__(self, matrix: Tensor) -> None:
        """Factorise M, (d, d) float64, of which the upper triangle is read."""
        if matrix.is_cuda:
            self.lower, info = torch.linalg.cholesky_ex(matrix.t())
            self.info = int(info)
        else:
            matrix = matrix.contiguous()
            self.lower = matrix.t()  # the upper triangle in rows is the lower one in columns, as LAPACK wants it
            self.info = _factorise(self.lower)

    def solve(self, right: Tensor) -> Tensor:
        """``M^-1 right`` for (d, k) float64."""
        solution: Tensor = torch.linalg.solve_triangular(self.lower.t(), self.whiten(right), upper=True)
        return solution

    def whiten(self, right: Tensor) -> Tensor:
        """``L^-1 right`` for (d, k) float64: the squares of a column sum up to ``x^T M^-1 x``."""
        whitened: Tensor = torch.linalg.solve_triangular(self.lower, right, upper=False)
        return whitened

    def inverse_trace(self) -> float:
        """Trace of ``M^-1``: the sum of the squares of ``L^-1``."""
        return _inverse_squares(self.lower)


def _factorise(lower: Tensor) -> int:
    """Factorise in place, from and into the lower triangle; returns the order of a minor that is not positive, or 0.

    SciPy's LAPACK is up to a quarter faster on an idle machine, and was 11 times slower where other processes wanted the
    cores as well (OpenBLAS, 2 cores, d = 2048): its threads wait for each other at every step.
    """
    if len(lower) <= WHOLE:
        factor, order = torch.linalg.cholesky_ex(lower)
        lower.copy_(factor)
        return int(order)
    first, below, last = _parts(lower)
    if info := _factorise(first):
        return info
    for rows in torch.split(below, ROWS):
        rows.copy_(torch.linalg.solve_triangular(first.t(), rows, upper=True, left=False))
    for start in range(0, len(last), COLUMNS):
        columns = slice(start, start + COLUMNS)
        last[start:, columns].addmm_(below[start:], below[columns].t(), alpha=-1)
    info = _factorise(last)
    return len(first) + info if info else 0


def _parts(lower: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two halves of the diagonal, and the block below the first."""
    half = len(lower) // 2
    return lower[:half, :half], lower[half:, :half], lower[half:, half:]


def _inverse_squares(lower: Tensor) -> float:
    """Sum of the squares of ``L^-1``: the inverses of the two halves of the diagonal, and the corner below them."""
    dim = len(lower)
    if dim <= LEAF:
        return _squares(torch.linalg.solve_triangular(lower, torch.eye(dim).to(lower), upper=False))
    first, below, last = _parts(lower)
    corner = torch.linalg.solve_triangular(last, below, upper=False)
    torch.linalg.solve_triangular(first, corner, upper=False, left=False, out=corner)
    return _inverse_squares(first) + _squares(corner) + _inverse_squares(last)


def _squares(matrix: Tensor) -> float:
    return float(torch.linalg.vector_norm(matrix)) ** 2
