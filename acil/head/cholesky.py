"""One Cholesky factorisation, in the memory of the matrix itself."""

from __future__ import annotations

import torch
from torch import Tensor

# Order of the diagonal blocks at which the recursion ends: a multiple of the tiles of AVX2 and AVX-512 products.
LEAF = 96
# Columns of the inverse at a time, in whole leaves: wide enough for the kernel, small beside the factor.
BLOCK_WIDTH = 3 * LEAF


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
        self.lower = matrix.t()  # the upper triangle in rows is the lower one in columns, as LAPACK wants it
        self._inverses: list[Tensor] = []  # of the diagonal blocks of L
        if matrix.is_cuda:
            self.lower, info = torch.linalg.cholesky_ex(self.lower)
            self.info = int(info)
        else:
            self.info = _factorise(self.lower, self._inverses)

    def solve(self, right: Tensor) -> Tensor:
        """``M^-1 right`` for (d, k) float64."""
        whitened = self.whiten(right)
        if self.lower.is_cuda:
            solution: Tensor = torch.linalg.solve_triangular(self.lower.t(), whitened, upper=True)
            return solution
        _divide(whitened.t(), self.lower, self._inverses)
        return whitened

    def whiten(self, right: Tensor) -> Tensor:
        """``L^-1 right`` for (d, k) float64: the squares of a column sum up to ``x^T M^-1 x``."""
        if self.lower.is_cuda:
            whitened: Tensor = torch.linalg.solve_triangular(self.lower, right, upper=False)
            return whitened
        whitened = right.clone()
        _divide_by_transpose(whitened.t(), self.lower, self._inverses)
        return whitened

    def inverse_trace(self) -> float:
        """Trace of ``M^-1``: the sum of the squares of ``L^-1``, whose columns are zero above the diagonal."""
        trace = 0.0
        for start in range(0, len(self.lower), BLOCK_WIDTH):
            rest = self.lower[start:, start:]
            columns = torch.zeros(len(rest), min(BLOCK_WIDTH, len(rest)), dtype=rest.dtype, device=rest.device)
            columns.fill_diagonal_(1.0)
            if rest.is_cuda:
                columns = torch.linalg.solve_triangular(rest, columns, upper=False)
            else:
                _divide_by_transpose(columns.t(), rest, self._inverses[start // LEAF :])
            trace += float(torch.linalg.vector_norm(columns)) ** 2
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
    _divide_by_transpose(below, matrix[:half, :half], upper_left)
    _subtract_outer(matrix[half:, half:], below)
    inverses += upper_left
    info = _factorise(matrix[half:, half:], inverses)
    return half + info if info else 0


def _divide(rows: Tensor, lower: Tensor, inverses: list[Tensor]) -> None:
    """Replace ``rows`` (n, k) by ``rows L^-1``, given the inverses of L's diagonal blocks."""
    if len(lower) <= LEAF:
        rows.copy_(rows @ inverses[0])
        return
    half = _half(len(lower))
    blocks = half // LEAF
    _divide(rows[:, half:], lower[half:, half:], inverses[blocks:])
    rows[:, :half].addmm_(rows[:, half:], lower[half:, :half], alpha=-1)
    _divide(rows[:, :half], lower[:half, :half], inverses[:blocks])


def _divide_by_transpose(rows: Tensor, lower: Tensor, inverses: list[Tensor]) -> None:
    """Replace ``rows`` (n, k) by ``rows L^-T``, given the inverses of L's diagonal blocks."""
    if len(lower) <= LEAF:
        rows.copy_(rows @ inverses[0].t())
        return
    half = _half(len(lower))
    blocks = half // LEAF
    _divide_by_transpose(rows[:, :half], lower[:half, :half], inverses[:blocks])
    rows[:, half:].addmm_(rows[:, :half], lower[half:, :half].t(), alpha=-1)
    _divide_by_transpose(rows[:, half:], lower[half:, half:], inverses[blocks:])


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
