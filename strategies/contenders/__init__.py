"""Methods of class-incremental learning to compare, every one its peer's own implementation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from acil.strategies.contenders import gradient
from acil.strategies.contenders.analytic import Analytic, Joint
from acil.strategies.contenders.class_statistics import DeepSLDA, NearestClassMean
from acil.strategies.contenders.contender import Contender, Phase, Start

__all__ = ["CONTENDERS", "Contender", "Entry", "Phase", "Start"]


@dataclass(frozen=True)
class Entry:
    """A contender as tables name it.

    Attributes:
        title: its name in tables.
        on_images: whether it is given images, or features that were extracted once.
        by_gradients: whether it trains for a number of epochs.
        create: makes it.
    """

    title: str
    on_images: bool
    by_gradients: bool
    create: Callable[[Start], Contender]


def _analytic(title: str, method: str) -> Entry:
    return Entry(title, False, False, partial(Analytic, method=method))


def _gradient(title: str, create: Callable[..., Contender], head_only: bool) -> Entry:
    part = "classifier" if head_only else "network"
    return Entry(f"{title}, {part}", not head_only, True, partial(create, head_only=head_only))


CONTENDERS = {
    "acil": _analytic("ACIL", "acil"),
    "fourier": _analytic("Fourier ACIL", "fourier"),
    "lda": _analytic("ACIL with LDA", "lda"),
    "gkeal": _analytic("GKEAL", "gkeal"),
    "ds-al": _analytic("DS-AL", "ds-al"),
    "joint": Entry("joint ACIL", False, False, partial(Joint, method="acil")),
    "slda": Entry("deep SLDA", False, False, DeepSLDA),
    "ncm": Entry("nearest class mean", False, False, NearestClassMean),
    "naive": _gradient("naive", gradient.naive, head_only=False),
    "lwf": _gradient("LwF", gradient.lwf, head_only=False),
    "ewc": _gradient("EWC", gradient.ewc, head_only=False),
    "replay": _gradient("replay", gradient.replay, head_only=False),
    "naive-head": _gradient("naive", gradient.naive, head_only=True),
    "lwf-head": _gradient("LwF", gradient.lwf, head_only=True),
    "ewc-head": _gradient("EWC", gradient.ewc, head_only=True),
    "replay-head": _gradient("replay", gradient.replay, head_only=True),
}
