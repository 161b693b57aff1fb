"""Storage-free class-incremental learning, exact to the bit.

The public names load on first use: ``import acil`` alone costs nothing, and the command line can answer
``--help`` without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acil.buffer import Buffer, FourierBuffer, GaussianKernelBuffer, LinearBuffer, RandomBuffer
    from acil.classifier import Classifier
    from acil.errors import IllConditionedWarning, ModelFileError, NotLearnedError, SingularMomentsError
    from acil.estimator import AnalyticClassifier
    from acil.head import AnalyticHead, DiscriminantHead, DualStreamHead, ExactHead, Quantizer, RecursiveHead
    from acil.learner import AnalyticLearner
    from acil.methods import create_learner

__version__ = "0.1.0"

_MODULE_OF = {
    "AnalyticClassifier": "acil.estimator",
    "AnalyticHead": "acil.head",
    "AnalyticLearner": "acil.learner",
    "Buffer": "acil.buffer",
    "Classifier": "acil.classifier",
    "DiscriminantHead": "acil.head",
    "DualStreamHead": "acil.head",
    "ExactHead": "acil.head",
    "FourierBuffer": "acil.buffer",
    "GaussianKernelBuffer": "acil.buffer",
    "IllConditionedWarning": "acil.errors",
    "LinearBuffer": "acil.buffer",
    "ModelFileError": "acil.errors",
    "NotLearnedError": "acil.errors",
    "Quantizer": "acil.head",
    "RandomBuffer": "acil.buffer",
    "RecursiveHead": "acil.head",
    "SingularMomentsError": "acil.errors",
    "create_learner": "acil.methods",
}

__all__ = [
    "AnalyticClassifier",
    "AnalyticHead",
    "AnalyticLearner",
    "Buffer",
    "Classifier",
    "DiscriminantHead",
    "DualStreamHead",
    "ExactHead",
    "FourierBuffer",
    "GaussianKernelBuffer",
    "IllConditionedWarning",
    "LinearBuffer",
    "ModelFileError",
    "NotLearnedError",
    "Quantizer",
    "RandomBuffer",
    "RecursiveHead",
    "SingularMomentsError",
    "create_learner",
]

# In a source checkout the subpackages lie beside this folder (see pyproject.toml), not inside it. Without this
# line, Python started from the checkout's root would find this folder and miss them.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout))


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'acil' has no attribute {name!r}; it has {', '.join(__all__)}")
