"""One Cholesky factorisation, in the memory of the matrix itself."""

from __future__ import annotations

import torch
from torch import Tensor

# Columns of the inverse at a time: wide enough for the kernel, small beside the factor.
BLOCK_WIDTH = 256


class CholeskyFactor:
    """The factor of a symmetric positive definite matrix ``M = L L^T``.

    Args:
        matrix: M, (d, d) float64, row-major, of which the upper triangle is read; on a CPU its memory becomes the
            factor's, so that no second matrix is alive.

    Attributes:
        lower: L, (d, d) float64.
        info: 0, or the order of the first leading minor that is not positive definite; nothing else works then.
    """

    def __init__(self, matrix: Tensor) -> None:
        lower = matrix.t()  # the upper triangle in rows is the lower one in columns, as LAPACK wants it
        if matrix.is_cuda:
            self.lower, info = torch.linalg.cholesky_ex(lower)
        else:
            info = torch.empty((), dtype=torch.int32)
            torch.linalg.cholesky_ex(lower, out=(lower, info))
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
