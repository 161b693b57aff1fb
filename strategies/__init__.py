"""The engine as Avalanche strategies, and base training for its backbones, robust where it has to be."""

from acil.strategies.acil import ACIL
from acil.strategies.distributed import DistributedACIL
from acil.strategies.logits import LogitClipPlugin, LogitNormPlugin
from acil.strategies.open_set import ODNLPlugin, OpenSamplingPlugin, OpenSetPlugin
from acil.strategies.variants import DSAL, GKEAL, DiscriminantACIL, FourierACIL

__all__ = [
    "ACIL",
    "DSAL",
    "GKEAL",
    "DiscriminantACIL",
    "DistributedACIL",
    "FourierACIL",
    "LogitClipPlugin",
    "LogitNormPlugin",
    "ODNLPlugin",
    "OpenSamplingPlugin",
    "OpenSetPlugin",
]
