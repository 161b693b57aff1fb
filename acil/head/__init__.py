"""Linear classifiers in closed form."""

from acil.head.base import AnalyticHead
from acil.head.exact import ExactHead
from acil.head.moments import FeatureMoments
from acil.head.recursive import RecursiveHead

# By the name that files and the command line use.
HEADS: dict[str, type[AnalyticHead]] = {"exact": ExactHead, "recursive": RecursiveHead}

__all__ = ["HEADS", "AnalyticHead", "ExactHead", "FeatureMoments", "RecursiveHead"]
