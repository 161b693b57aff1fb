"""Exact products of integer matrices, by the fastest int8 kernel that is exact on this machine.

Two kernels can be exact: int8 x int8 -> int32 (``torch._int_mm``), and float32 on few enough rows that every
partial sum is an integer below 2^24. Some processors saturate int8 products, some lack a fast int8 kernel, and
reduced-precision modes (TF32, bfloat16) break the float32 one. So both are tried on random products, once per process
and device, and the faster of those that are exact is used. Either way the result is the same integers.

Rows of 16 bits are split into two balanced digits in base 255, each of which is a row of int8.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = Callable[[Tensor, Tensor], Tensor]

# 127^2 rows must stay below 2^31 in int32 and below 2^24 in float32.
MAX_ROWS_INT32 = 131_072
MAX_ROWS_FLOAT32 = 1_040

# Heights and inner sizes of the products that a kernel is tried on; the last one is timed.
TRIED_SIZES = ((64, 64), (128, 320), (256, 2_048))

# Widths of the blocks on and above the diagonal; wide enough for the kernel to run at full speed.
BLOCK_WIDTH = 1_024

# int8 kernels refuse some sizes and compute others wrongly; what they multiply is padded to multiples of this.
ALIGNMENT = 64

# Two digits in -127..127 hold every integer up to 127 * 255 + 127.
BASE = 255


def gram_stripes(rows: Tensor) -> list[Tensor]:
    """The upper triangle of ``rows^T rows``, exactly, as stripes of ``BLOCK_WIDTH`` rows from the diagonal on.

    Args:
        rows: (n, d) int8 with values in -127..127, or int16 with values in -32512..32512.

    Returns:
        stripes (at most ``BLOCK_WIDTH``, d - start), int32 where the sums fit and int64 otherwise.
    """
    multiply, dim = exact_kernel(rows.device), rows.shape[1]
    factors: list[tuple[Tensor, Tensor, int]] = []  # (d, n) and (n, d) int8, and the weight of their product
    for part in torch.split(rows, MAX_ROWS_INT32):
        digits = _weighted_digits(part)
        transposed = [(digit.t().contiguous(), weight) for digit, weight in digits]
        if rows.is_cuda:  # its kernel reads both factors along n
            digits = [(digit.t(), weight) for digit, weight in transposed]
        factors += [(left, right, one * other) for left, one in transposed for right, other in digits]
    stripes = []
    for start in range(0, dim, BLOCK_WIDTH):
        (left, right, weight), *others = factors
        stripe = multiply(left[start : start + BLOCK_WIDTH], right[:, start:])
        if others:
            stripe = weight * stripe.long()
        for left, right, weight in others:
            stripe.add_(multiply(left[start : start + BLOCK_WIDTH], right[:, start:]), alpha=weight)
        stripes.append(stripe[: dim - start, : dim - start])
    return stripes


def add_stripes(total: Tensor, stripes: list[Tensor]) -> None:
    """Add what ``gram_stripes`` gave to (d, d) int64, in place; blocks below the diagonal are left alone."""
    for stripe in stripes:
        start = len(total) - stripe.shape[1]
        total[start : start + len(stripe), start:].add_(stripe)


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left^T right`` to ``total``, in place and exactly.

    Args:
        total: (a, b) int64.
        left: (n, a) int8 with values in -127..127, or int16 with values in -32512..32512.
        right: (n, b), likewise.
    """
    multiply = exact_kernel(left.device)
    height, width = total.shape
    for left_digit, left_weight in _weighted_digits(left):
        for right_digit, right_weight in _weighted_digits(right):
            parts = torch.split(left_digit, MAX_ROWS_INT32), torch.split(right_digit, MAX_ROWS_INT32)
            for some_left, some_right in zip(*parts, strict=True):
                product = multiply(some_left.t().contiguous(), some_right)[:height, :width]
                total.add_(product, alpha=left_weight * right_weight)


def class_sums(rows: Tensor, positions: Tensor, classes: int) -> Tensor:
    """Sums of the rows of each class, as an exact product with one-hot rows: several times faster than indexing.

    Args:
        rows: (n, d) int8 with values in -127..127, or int16 with values in -32512..32512.
        positions: (n,) int64 in 0..classes-1, the class of each row.
        classes: number of classes.

    Returns:
        (classes, d) int64.
    """
    total = rows.new_zeros(classes, rows.shape[1], dtype=torch.int64)
    one_hot = (positions[:, None] == torch.arange(classes, device=rows.device)).to(torch.int8)
    add_product(total, one_hot, rows)
    return total


def _weighted_digits(rows: Tensor) -> list[tuple[Tensor, int]]:
    """int8 digits of (n, d) rows, padded with zeros, each with its weight."""
    if rows.dtype == torch.int8:
        return [(_aligned(rows), 1)]
    high, low = _digits(rows)
    return [(_aligned(high), BASE), (_aligned(low), 1)]


def _aligned(matrix: Tensor) -> Tensor:
    below, beside = (-size % ALIGNMENT for size in matrix.shape)
    return F.pad(matrix, (0, beside, 0, below)) if below or beside else matrix


def _digits(rows: Tensor) -> tuple[Tensor, Tensor]:
    """int16 rows as ``255 high + low`` with both in -127..127."""
    wide = rows.int()
    high = torch.div(wide + (BASE - 1) // 2, BASE, rounding_mode="floor")
    return high.to(torch.int8), (wide - BASE * high).to(torch.int8)


@cache
def exact_kernel(device: torch.device) -> Kernel:
    """The faster of the kernels that prove exact on this device, for sizes that are multiples of ``ALIGNMENT``.

    Raises:
        RuntimeError: neither is exact.
    """
    seconds = {kernel: _seconds(kernel, device) for kernel in (_int8_product, _float32_product)}
    fastest = min(seconds, key=lambda kernel: seconds[kernel])
    if math.isinf(seconds[fastest]):
        raise RuntimeError(
            f"no product of integers is exact on {device}: what was learned would be wrong; compute on another device, "
            "and leave overrides of its precision, such as NVIDIA_TF32_OVERRIDE, unset"
        )
    return fastest


@cache
def _seconds(kernel: Kernel, device: torch.device) -> float:
    """How long a product takes; infinite where the kernel does not exist or is not exact on this device."""
    generator = torch.Generator().manual_seed(0)
    for size, inner in TRIED_SIZES:
        left = torch.randint(-127, 128, (size, inner), generator=generator, dtype=torch.int8)
        left[0] = 127  # the extremes are where saturating hardware shows
        left[1] = -127
        expected = (left.double() @ left.double().t()).long()
        left, right = left.to(device), left.t().contiguous().to(device)
        try:
            if not torch.equal(kernel(left, right).cpu().long(), expected):
                return math.inf
        except RuntimeError:  # the kernel does not exist on this device
            return math.inf
    start = time.perf_counter()
    for _ in range(3):
        result = kernel(left, right)
    result[0, 0].item()  # waits for the device
    return time.perf_counter() - start


def _int8_product(left: Tensor, right: Tensor) -> Tensor:
    """(a, n) @ (n, b) int8 -> int32, for n up to ``MAX_ROWS_INT32``."""
    if not right.is_cuda:
        return torch._int_mm(left, right)
    try:
        return torch._int_mm(left, right.t().contiguous().t())  # where it lies along n already, nothing is copied
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError:  # cuBLAS has no kernel for some sizes on some devices
        if math.isinf(_seconds(_float32_product, right.device)):
            raise
        return _float32_product(left, right)


def _float32_product(left: Tensor, right: Tensor) -> Tensor:
    """(a, n) @ (n, b) int8 -> int64, in slices whose float32 sums are exact integers."""
    total = left.new_zeros(left.shape[0], right.shape[1], dtype=torch.int64)
    with _full_float32_precision(left.device):
        for start in range(0, left.shape[1], MAX_ROWS_FLOAT32):
            stop = start + MAX_ROWS_FLOAT32
            total += (left[:, start:stop].float() @ right[start:stop].float()).long()
    return total


@contextmanager
def _full_float32_precision(device: torch.device) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
