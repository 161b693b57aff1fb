"""The engine as Avalanche strategies, and base training for its backbones."""

from acil.strategies.acil import ACIL

__all__ = ["ACIL"]
