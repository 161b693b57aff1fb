"""What the benchmarks share: timings that mean something on a noisy machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch


def seconds(action: Callable[[], object], repeats: int = 3, warm_up: bool = True) -> float:
    """The shortest of several timings: noise only ever adds."""
    if warm_up:
        once(action)
    return min(once(action) for _ in range(repeats))


def once(action: Callable[[], object]) -> float:
    """One timing, waiting for the device."""
    start = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def float64_rate(dim: int, device: torch.device) -> float:
    """Floating-point operations per second of this machine's float64 matrix product."""
    square = torch.rand(dim, dim, dtype=torch.float64, device=device)
    out = torch.empty_like(square)
    return 2 * dim**3 / seconds(lambda: torch.mm(square, square, out=out), 3)


def resident_memory() -> int:
    """Bytes of this process that lie in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
