"""Storage-free class-incremental learning, exact to the bit.

The public names load on first use: ``import acil`` alone costs nothing, and the command line can answer
``--help`` without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acil.buffer import Quantizer, RandomBuffer
    from acil.errors import ModelFileError
    from acil.head import AnalyticHead, ExactHead, RecursiveHead
    from acil.learner import AnalyticLearner

__version__ = "0.1.0"

__all__ = [
    "AnalyticHead",
    "AnalyticLearner",
    "ExactHead",
    "ModelFileError",
    "Quantizer",
    "RandomBuffer",
    "RecursiveHead",
]

_MODULE_OF = {
    "AnalyticHead": "acil.head",
    "AnalyticLearner": "acil.learner",
    "ExactHead": "acil.head",
    "ModelFileError": "acil.errors",
    "Quantizer": "acil.buffer",
    "RandomBuffer": "acil.buffer",
    "RecursiveHead": "acil.head",
}

# In a source checkout the subpackages lie beside this folder (see pyproject.toml), not inside it. Without this
# line, Python started from the checkout's root would find this folder and miss them.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout))


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'acil' has no attribute {name!r}; it has {', '.join(__all__)}")
