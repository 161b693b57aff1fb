"""Linear classifiers in closed form."""

from typing import Any

from acil.checks import check_name
from acil.head.base import AnalyticHead, Gamma
from acil.head.discriminant import DiscriminantHead
from acil.head.dual_stream import DualStreamHead
from acil.head.exact import ExactHead
from acil.head.moments import FeatureMoments
from acil.head.quantizer import Quantizer
from acil.head.recursive import RecursiveHead

# By the name that files and the command line use.
HEADS: dict[str, type[AnalyticHead]] = {
    head.name: head for head in (ExactHead, RecursiveHead, DualStreamHead, DiscriminantHead)
}

__all__ = [
    "HEADS",
    "AnalyticHead",
    "DiscriminantHead",
    "DualStreamHead",
    "ExactHead",
    "FeatureMoments",
    "Gamma",
    "Quantizer",
    "RecursiveHead",
    "create_head",
]


def create_head(name: str, **spec: Any) -> AnalyticHead:
    """Build the head that ``AnalyticHead.spec`` describes.

    Raises:
        ValueError: there is no head of that name, or a setting does not fit.
    """
    check_name(name, HEADS, "head")
    return HEADS[name](**spec)
