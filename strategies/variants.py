"""Other analytic methods as Avalanche strategies: ``ACIL`` with another buffer layer or head."""

from __future__ import annotations

from acil.strategies.acil import ACIL


class FourierACIL(ACIL):
    """``ACIL`` on cosines of standardised features, for features of any scale and offset."""

    method = "fourier"


class DiscriminantACIL(ACIL):
    """``ACIL`` that reads discriminant analysis from its moments, for many classes or classes of unequal size."""

    method = "lda"


class GKEAL(ACIL):
    """``ACIL`` on Gaussian kernels around base-phase features.

    References:
        Zhuang et al., "GKEAL: Gaussian Kernel Embedded Analytic Learning for Few-Shot Class Incremental Task",
        CVPR 2023.
    """

    method = "gkeal"


class DSAL(ACIL):
    """``ACIL`` with a compensation stream for what the main one could not fit.

    References:
        Zhuang et al., "DS-AL: A Dual-Stream Analytic Learning for Exemplar-Free Class-Incremental Learning",
        AAAI 2024.
    """

    method = "ds-al"
