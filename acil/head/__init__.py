"""Linear classifiers in closed form."""

from acil.head.base import AnalyticHead
from acil.head.exact import ExactHead
from acil.head.moments import FeatureMoments
from acil.head.recursive import RecursiveHead

__all__ = ["AnalyticHead", "ExactHead", "FeatureMoments", "RecursiveHead"]
