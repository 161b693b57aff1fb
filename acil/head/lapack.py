"""The three LAPACK routines that the solve needs, in place and without Python's lock.

SciPy's own wrappers hold the lock while they compute, so a service would stop answering during every solve. The
addresses of the routines are public (``scipy.linalg.cython_lapack``); called through ctypes they run without it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
from scipy.linalg import cython_lapack
from torch import Tensor

_LOWER, _NOT_UNIT = ctypes.c_char(b"L"), ctypes.c_char(b"N")


def factorise(matrix: Tensor) -> int:
    """Cholesky factor of a matrix, in its memory.

    Args:
        matrix: (d, d) float64, column-major; the lower triangle is read and becomes L, the upper one becomes zero.

    Returns:
        0, or the order of the first leading minor that is not positive definite.
    """
    info = ctypes.c_int()
    size = ctypes.c_int(len(matrix))
    _call(_potrf, _LOWER, size, matrix, size, info)
    matrix.tril_()
    return info.value


def substitute(factor: Tensor, right: Tensor) -> None:
    """Replace ``right``, (d, k) column-major, by the solution X of ``L L^T X = right``."""
    size, columns = ctypes.c_int(len(factor)), ctypes.c_int(right.shape[1])
    _call(_potrs, _LOWER, size, columns, factor, size, right, size, ctypes.c_int())


def invert(factor: Tensor) -> None:
    """Replace L, (d, d) column-major, by its inverse."""
    size = ctypes.c_int(len(factor))
    _call(_trtri, _LOWER, _NOT_UNIT, size, factor, size, ctypes.c_int())


def _routine(name: str, arguments: int) -> Callable[..., None]:
    """The Fortran routine: every argument is a pointer."""
    capsule = cython_lapack.__pyx_capi__[name]
    name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
    address_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    address = address_of(capsule, name_of(capsule))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)(address)


def _call(routine: Callable[..., None], *arguments: Tensor | ctypes.c_int | ctypes.c_char) -> None:
    for matrix in arguments:
        if isinstance(matrix, Tensor):
            assert matrix.dtype == torch.float64 and matrix.t().is_contiguous() and not matrix.is_cuda
    routine(*[each.data_ptr() if isinstance(each, Tensor) else ctypes.addressof(each) for each in arguments])


_potrf = _routine("dpotrf", 5)
_potrs = _routine("dpotrs", 8)
_trtri = _routine("dtrtri", 6)
