"""The engine as Avalanche strategies, and base training for its backbones."""

from acil.strategies.acil import ACIL
from acil.strategies.distributed import DistributedACIL
from acil.strategies.variants import DSAL, GKEAL, FourierACIL

__all__ = ["ACIL", "DSAL", "GKEAL", "DistributedACIL", "FourierACIL"]
