"""One Cholesky factorisation, in the memory of the matrix itself."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import torch
from scipy.linalg import cython_lapack
from torch import Tensor

# Larger matrices are factorised by halves: OpenBLAS overruns its buffers from an order of about 15,000 on.
LARGEST = 8192

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
    """Factorise in place, columns in one piece each, from and into the lower triangle; returns LAPACK's ``info``."""
    if len(lower) <= LARGEST:
        return _lapack_cholesky(lower)
    first, below, last = _parts(lower)
    if info := _factorise(first):
        return info
    width = LARGEST // 2
    for start in range(0, len(below), width):
        rows = below[start : start + width]
        rows.copy_(torch.linalg.solve_triangular(first.t(), rows, upper=True, left=False))
    for start in range(0, len(last), width):
        last[start:, start : start + width].addmm_(below[start:], below[start : start + width].t(), alpha=-1)
    info = _factorise(last)
    return len(first) + info if info else 0


def _parts(lower: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two halves of the diagonal, and the block below the first."""
    half = len(lower) // 2
    return lower[:half, :half], lower[half:, :half], lower[half:, half:]


def _lapack_cholesky(lower: Tensor) -> int:
    """As ``_factorise``, by SciPy's LAPACK, up to twice as fast as PyTorch's."""
    order, stride, info = ctypes.c_int(len(lower)), ctypes.c_int(lower.stride(1)), ctypes.c_int()
    sizes = ctypes.byref(order), ctypes.c_void_p(lower.data_ptr()), ctypes.byref(stride)
    _dpotrf()(b"L", *sizes, ctypes.byref(info))
    return info.value


@cache
def _dpotrf() -> Callable[..., None]:
    """LAPACK's routine itself: called through ``scipy.linalg.lapack`` it would hold the interpreter's lock."""
    capsule = cython_lapack.__pyx_capi__["dpotrf"]
    api = ctypes.pythonapi
    name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))(capsule)
    address = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", api))
    pointers = [ctypes.c_void_p] * 3
    return ctypes.CFUNCTYPE(None, ctypes.c_char_p, *pointers, ctypes.c_void_p)(address(capsule, name))


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
