"""Buffer layers: the fixed expansions between backbone and head."""

from typing import Any

from acil.buffer.buffer import Buffer
from acil.buffer.fourier import FourierBuffer
from acil.buffer.kernel import GaussianKernelBuffer
from acil.buffer.random import LinearBuffer, RandomBuffer
from acil.checks import check_name

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
    """Build the buffer layer that ``Buffer.spec`` describes.

    Raises:
        ValueError: there is no buffer layer of that name, or a setting does not fit.
    """
    check_name(name, BUFFERS, "buffer layer")
    return BUFFERS[name](**spec)
