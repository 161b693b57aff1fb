"""Buffer layers: the fixed expansions between backbone and head."""

from typing import Any

from acil.buffer.buffer import Buffer
from acil.buffer.fourier import FourierBuffer
from acil.buffer.kernel import GaussianKernelBuffer
from acil.buffer.random import LinearBuffer, RandomBuffer

# By the name that files use.
BUFFERS: dict[str, type[Buffer]] = {
    buffer.name: buffer for buffer in (LinearBuffer, RandomBuffer, FourierBuffer, GaussianKernelBuffer)
}

__all__ = [
    "BUFFERS",
    "Buffer",
    "FourierBuffer",
    "GaussianKernelBuffer",
    "LinearBuffer",
    "RandomBuffer",
    "create_buffer",
]


def create_buffer(name: str, **spec: Any) -> Buffer:
    """Build the buffer layer that ``Buffer.spec`` describes."""
    return BUFFERS[name](**spec)
