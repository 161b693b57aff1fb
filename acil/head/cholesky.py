"""One Cholesky factorisation, in the memory of the matrix itself."""

from __future__ import annotations

import torch
from torch import Tensor

from acil.head import lapack

# Steps of inverse iteration: enough for the order of magnitude of the smallest eigenvalue.
INVERSE_ITERATIONS = 4


class CholeskyFactor:
    """The factor of a symmetric positive definite matrix ``M = L L^T``.

    On a CPU LAPACK is called directly: it factorises in place and a third faster than ``torch.linalg`` does, which
    copies the matrix first.

    Args:
        matrix: M, (d, d) float64, row-major, of which the upper triangle is read; its memory becomes the factor's.

    Attributes:
        info: 0, or the order of the first leading minor that is not positive definite; nothing else works then.
    """

    def __init__(self, matrix: Tensor) -> None:
        self._lower = matrix.t()  # the upper triangle in rows is the lower one in columns, as LAPACK reads it
        if matrix.is_cuda:
            info = torch.zeros((), dtype=torch.int32, device=matrix.device)
            torch.linalg.cholesky_ex(self._lower, out=(self._lower, info))
            self.info = int(info)
        else:
            self.info = lapack.factorise(self._lower)

    @property
    def lower(self) -> Tensor:
        """L, (d, d) float64."""
        return self._lower

    def solve(self, right: Tensor) -> Tensor:
        """``M^-1 right`` for (d, k) float64."""
        if right.is_cuda:
            return torch.cholesky_solve(right, self._lower)
        solution = right.t().clone(memory_format=torch.contiguous_format).t()
        lapack.substitute(self._lower, solution)
        return solution

    def whiten(self, right: Tensor) -> Tensor:
        """``L^-1 right`` for (d, k) float64: the squares of a column sum up to ``x^T M^-1 x``."""
        whitened: Tensor = torch.linalg.solve_triangular(self._lower, right, upper=False)
        return whitened

    def inverse_trace(self) -> float:
        """Trace of ``M^-1``, at the price of the factor: L becomes its inverse, and nothing else works afterwards."""
        if self._lower.is_cuda:
            return float(torch.linalg.inv_ex(self._lower).inverse.square().sum())
        lapack.invert(self._lower)
        return float(torch.linalg.vector_norm(self._lower)) ** 2

    def smallest_eigenvalue(self) -> float:
        """The smallest eigenvalue of M, to its order of magnitude, by inverse iteration."""
        generator = torch.Generator().manual_seed(0)
        vector = torch.randn(len(self._lower), 1, generator=generator, dtype=torch.float64).to(self._lower.device)
        growth = 1.0
        for _ in range(INVERSE_ITERATIONS):
            vector = self.solve(vector / torch.linalg.vector_norm(vector))
            growth = float(torch.linalg.vector_norm(vector))
        return 1 / growth
