"""One Cholesky factorisation, in the memory of the matrix itself."""

from __future__ import annotations

import torch
from torch import Tensor

# Columns of the inverse at a time: wide enough for the kernel, small beside the factor.
BLOCK_WIDTH = 256
# Order of the diagonal blocks at which the recursion ends: a multiple of the tiles of AVX2 and AVX-512 products.
LEAF = 96


class CholeskyFactor:
    """The factor of a symmetric positive definite matrix ``M = L L^T``.

    On CPUs a recursion leaves almost all of the work to matrix products, which are faster than LAPACK's own blocks.

    Args:
        matrix: M, (d, d) float64, row-major, of which the upper triangle is read; on a CPU its memory becomes the
            factor's, so that no second matrix is alive.

    Attributes:
        lower: (d, d) float64 with L in its lower triangle; what stands above it means nothing.
        info: 0, or the order of the first leading minor that is not positive definite; nothing else works then.
    """

    def __init__(self, matrix: Tensor) -> None:
        lower = matrix.t()  # the upper triangle in rows is the lower one in columns, as LAPACK wants it
        if matrix.is_cuda:
            self.lower, info = torch.linalg.cholesky_ex(lower)
        else:
            info = _factorise(lower, [])
            self.lower = lower
        self.info = int(info)

    def solve(self, right: Tensor) -> Tensor:
        """``M^-1 right`` for (d, k) float64."""
        solution: Tensor = torch.linalg.solve_triangular(self.lower.t(), self.whiten(right), upper=True)
        return solution

    def whiten(self, right: Tensor) -> Tensor:
        """``L^-1 right`` for (d, k) float64: the squares of a column sum up to ``x^T M^-1 x``."""
        whitened: Tensor = torch.linalg.solve_triangular(self.lower, right, upper=False)
        return whitened

    def inverse_trace(self) -> float:
        """Trace of ``M^-1``: the sum of the squares of ``L^-1``, whose columns are zero above the diagonal."""
        trace = 0.0
        for start in range(0, len(self.lower), BLOCK_WIDTH):
            rest = self.lower[start:, start:]
            columns = torch.zeros(len(rest), min(BLOCK_WIDTH, len(rest)), dtype=rest.dtype, device=rest.device)
            columns.fill_diagonal_(1.0)
            inverse = torch.linalg.solve_triangular(rest, columns, upper=False)
            trace += float(torch.linalg.vector_norm(inverse)) ** 2
        return trace


def _factorise(matrix: Tensor, inverses: list[Tensor]) -> int:
    """Replace the lower triangle of M by L, and append the inverses of L's diagonal blocks; returns ``info``.

    References:
        Elmroth et al., "Recursive blocked algorithms and hybrid data structures", SIAM Review 2004, section 3.
    """
    if len(matrix) <= LEAF:
        lower, info = torch.linalg.cholesky_ex(matrix)
        matrix.copy_(lower)
        inverses.append(torch.linalg.solve_triangular(lower, torch.eye(len(lower)).to(lower), upper=False))
        return int(info)
    half = _half(len(matrix))
    upper_left: list[Tensor] = []
    if info := _factorise(matrix[:half, :half], upper_left):
        return info
    below = matrix[half:, :half]
    _divide(below, matrix[:half, :half], upper_left)
    _subtract_outer(matrix[half:, half:], below)
    inverses += upper_left
    info = _factorise(matrix[half:, half:], inverses)
    return half + info if info else 0


def _divide(rows: Tensor, lower: Tensor, inverses: list[Tensor]) -> None:
    """Replace ``rows`` (n, k) by ``rows L^-T``, given the inverses of L's diagonal blocks."""
    if len(lower) <= LEAF:
        rows.copy_(rows @ inverses[0].t())
        return
    half = _half(len(lower))
    blocks = half // LEAF
    _divide(rows[:, :half], lower[:half, :half], inverses[:blocks])
    rows[:, half:].addmm_(rows[:, :half], lower[half:, :half].t(), alpha=-1)
    _divide(rows[:, half:], lower[half:, half:], inverses[blocks:])


def _subtract_outer(matrix: Tensor, rows: Tensor) -> None:
    """Subtract ``rows rows^T`` from the lower triangle of a matrix."""
    if len(matrix) <= LEAF:
        matrix.addmm_(rows, rows.t(), alpha=-1)
        return
    half = _half(len(matrix))
    _subtract_outer(matrix[:half, :half], rows[:half])
    matrix[half:, :half].addmm_(rows[half:], rows[:half].t(), alpha=-1)
    _subtract_outer(matrix[half:, half:], rows[half:])


def _half(order: int) -> int:
    """About half of an order, in whole leaves."""
    return -(-order // LEAF) // 2 * LEAF
