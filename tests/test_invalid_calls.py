"""No invalid call changes anything: it is refused by a ``ValueError`` that names what was wrong.

Every door of the public API gets its share of calls that Hypothesis makes up. What the call could have changed is
compared bit for bit, with nothing learned before it and with something.
"""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from acil import (
    AnalyticHead,
    AnalyticLearner,
    DualStreamHead,
    ExactHead,
    FourierBuffer,
    GaussianKernelBuffer,
    LinearBuffer,
    Quantizer,
    RandomBuffer,
    RecursiveHead,
    create_learner,
)
from acil.backbones import create_backbone
from acil.buffer import BUFFERS, Buffer, create_buffer
from acil.head import FeatureMoments, create_head
from acil.head import exact as exact_module

SIDE, WIDTH, DIM = 3, 4, 6
EXAMPLES = 25
CALLS = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

Draw = Callable[[st.SearchStrategy[Any]], Any]
Call = Callable[[], object]
# What a call may not change, the call, and what its error must name.
Attempt = tuple[list[nn.Module], Call, str]
Door = Callable[[Draw], Attempt]
DOORS: dict[str, Door] = {}


def door(make: Door) -> Door:
    DOORS[make.__name__] = make
    return make


def bits(module: nn.Module) -> dict[str, object]:
    """All that a module holds, floating-point NaN and signed zeros included."""
    held: dict[str, object] = {
        name: (value.dtype, tuple(value.shape), value.contiguous().reshape(-1).view(torch.uint8).tolist())
        for name, value in module.state_dict().items()
    }
    held["frozen"] = [value.requires_grad for value in module.parameters()]
    if isinstance(module, (ExactHead, FeatureMoments)):
        held["digest"] = module.digest()
    if isinstance(module, AnalyticLearner):
        held["training"] = [part.training for part in module.backbone.modules()]
        held["facts"] = (module.class_names, module.batch_size, module.image_shape, module.buffer.spec)
    return held


# --- what is right, to be spoilt -----------------------------------------------------------------------------------


def good_images(rows: int = 5, seed: int = 0) -> Tensor:
    return torch.rand(rows, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def good_features(rows: int = 5, width: int = WIDTH, seed: int = 0) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def good_labels(rows: int = 5) -> Tensor:
    return torch.arange(rows) % 3


def small_backbone() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, WIDTH, SIDE), nn.Flatten())


PARTS: dict[str, Callable[[], tuple[Buffer, AnalyticHead]]] = {
    "exact": lambda: (RandomBuffer(WIDTH, DIM), ExactHead(DIM)),
    "fourier": lambda: (FourierBuffer(WIDTH, DIM), ExactHead(DIM, gamma="auto")),
    "16 bits": lambda: (RandomBuffer(WIDTH, DIM), ExactHead(DIM, bits=16)),
    "recursive": lambda: (RandomBuffer(WIDTH, DIM), RecursiveHead(DIM)),
    "dual": lambda: (LinearBuffer(WIDTH, DIM), DualStreamHead(DIM)),
}


@cache
def made_learner(kind: str, learned: bool) -> AnalyticLearner:
    learner = AnalyticLearner(small_backbone(), *PARTS[kind](), batch_size=2)
    if learned:
        learner.learn(good_images(6, seed=1), good_labels(6))
        learner.learn(good_images(6, seed=2), good_labels(6) + 1)
    return learner


def a_learner(draw: Draw, *, kinds: list[str] | None = None, learned: bool | None = None) -> AnalyticLearner:
    kind = draw(st.sampled_from(kinds or list(PARTS)))
    return deepcopy(made_learner(kind, draw(st.booleans()) if learned is None else learned))


def a_head(draw: Draw, *, kinds: list[str] | None = None, learned: bool | None = None) -> Any:
    return a_learner(draw, kinds=kinds, learned=learned).head


EXACT = ["exact", "fourier", "16 bits"]

# --- what is wrong ---------------------------------------------------------------------------------------------------

no_tensors = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.floats(-1, 1), max_size=4),
    st.just({"rows": 1}),
    st.builds(np.zeros, st.tuples(st.integers(0, 3), st.integers(0, 5))),
    st.just(torch.Tensor),
)
no_floats = st.sampled_from(
    [torch.bool, torch.int8, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.complex64, torch.complex128]
)
floats = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def not_finite(draw: Draw, shape: tuple[int, ...]) -> Tensor:
    values = torch.zeros(shape, dtype=draw(floats))
    places = draw(st.lists(st.integers(0, values.numel() - 1), min_size=1, max_size=3))
    values.view(-1)[places] = draw(st.sampled_from([float("nan"), float("inf"), -float("inf")]))
    return values


def without_values(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> st.SearchStrategy[Tensor]:
    """Tensors that hold no values of their own, or not in rows."""
    return st.sampled_from([torch.empty(shape, device="meta", dtype=dtype), torch.ones(shape, dtype=dtype).to_sparse()])


def bad_features(width: int, rows: int = 5) -> st.SearchStrategy[Any]:
    return st.one_of(
        no_tensors,
        shapes.filter(lambda shape: len(shape) != 2 or shape[1] != width).map(torch.zeros),
        no_floats.map(lambda dtype: torch.zeros(rows, width).to(dtype)),
        not_finite((rows, width)),
        st.just(torch.full((rows, width), 1e5).half()),
        st.just(torch.zeros(rows, width).to(torch.float8_e4m3fn)),
        without_values((rows, width)),
    )


def bad_labels(rows: int = 5) -> st.SearchStrategy[Any]:
    whole = st.sampled_from([torch.int8, torch.int16, torch.int32, torch.int64])
    return st.one_of(
        no_tensors,
        st.integers(0, 9).filter(lambda count: count != rows).map(good_labels),
        shapes.filter(lambda shape: shape != (rows,)).map(lambda shape: torch.zeros(shape, dtype=torch.int64)),
        st.sampled_from([torch.bool, torch.float32, torch.float16, torch.complex64, torch.uint16, torch.uint64]).map(
            lambda dtype: torch.ones(rows).to(dtype)
        ),
        st.tuples(whole, st.integers(0, rows - 1), st.integers(-128, -1)).map(
            lambda drawn: good_labels(rows).index_fill(0, torch.tensor(drawn[1]), drawn[2]).to(drawn[0])
        ),
        without_values((rows,), torch.int64),
    )


def bad_images(rows: int = 5) -> st.SearchStrategy[Any]:
    shape = (rows, 1, SIDE, SIDE)
    return st.one_of(
        no_tensors,
        st.integers(0, 1).map(lambda dims: torch.zeros((rows,) * dims)),
        no_floats.filter(lambda dtype: dtype != torch.uint8).map(lambda dtype: torch.zeros(shape).to(dtype)),
        not_finite(shape),
        without_values(shape),
        # The backbone does not take these, or what it gives does not fit the buffer layer.
        st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))
        .filter(lambda size: size != (1, SIDE, SIDE))
        .map(lambda size: torch.rand(rows, *size)),
        st.just(torch.zeros(rows, WIDTH)),
        st.just(torch.zeros(shape, dtype=torch.float64)),
    )


IMAGES = "images|backbone|features"


def bad_samples(good: Tensor, bad: st.SearchStrategy[Any], told: str) -> st.SearchStrategy[tuple[Any, Any, str]]:
    """Rows and labels of which one is bad, and what the error must name."""
    return st.one_of(
        st.tuples(bad, st.just(good_labels()), st.just(told)),
        st.tuples(st.just(good), bad_labels(), st.just("labels")),
    )


bad_counts = st.one_of(
    st.integers(max_value=0), st.integers(2**31), st.booleans(), st.floats(), st.none(), st.text(max_size=3),
    st.just([4]), st.just(np.ones(2)), st.just(torch.tensor(4)),
)  # fmt: skip
bad_positives = st.one_of(
    st.floats(max_value=0.0), st.sampled_from([float("nan"), float("inf"), 5e-324, 10**400, np.float32(1), 1j]),
    st.booleans(), st.none(), st.just([0.1]), st.just(np.ones(2)), st.just(torch.tensor(0.1)), st.just(torch.ones(3)),
)  # fmt: skip
bad_gammas = st.one_of(bad_positives, st.text().filter(lambda text: text != "auto"), st.just(np.array(["auto", "x"])))
bad_bits = st.one_of(st.integers().filter(lambda bits: bits not in (8, 16)), st.none(), st.just([8]), st.just(8.0))
bad_seeds = st.one_of(st.integers(2**63), st.floats(), st.none(), st.booleans(), st.text(max_size=3), st.just([1]))
bad_names = st.one_of(st.text(), st.none(), st.integers(), st.just([]), st.just({}), st.binary(max_size=3))
bad_paths = st.one_of(st.none(), st.integers(), st.just([]), st.just("a\0b"), st.just(b"model"), st.just(3.5))
bad_class_names = st.one_of(
    st.none(), st.text(min_size=1), st.integers(), st.lists(st.integers(), min_size=1), st.just(("cat", None))
)
bad_image_shapes = st.one_of(
    st.integers(), st.text(min_size=1), st.lists(st.integers(max_value=0), min_size=1), st.just((3, 32.0, 32)),
    st.just(torch.ones(3)), st.just((True, 8, 8)),
)  # fmt: skip

# --- doors of the learner --------------------------------------------------------------------------------------------


@door
def learning_images(draw: Draw) -> Attempt:
    learner = a_learner(draw)
    images, labels, told = draw(bad_samples(good_images(), bad_images(), IMAGES))
    return [learner], lambda: learner.learn(images, labels), told


@door
def learning_features(draw: Draw) -> Attempt:
    learner = a_learner(draw)
    features, labels, told = draw(bad_samples(good_features(), bad_features(WIDTH), "features"))
    return [learner], lambda: learner.learn_features(features, labels), told


@door
def learning_features_too_large_for_the_frozen_path(draw: Draw) -> Attempt:
    learner = a_learner(draw)
    size = draw(st.floats(1.8e38, 1e200))
    features = good_features().double().sign() * size
    return [learner], lambda: learner.learn_features(features, good_labels()), "features"


@door
def forgetting_images(draw: Draw) -> Attempt:
    learner = a_learner(draw, kinds=EXACT)
    images, labels, told = draw(bad_samples(good_images(), bad_images(), IMAGES))
    return [learner], lambda: learner.forget(images, labels), told


@door
def forgetting_features(draw: Draw) -> Attempt:
    learner = a_learner(draw)
    features, labels, told = draw(bad_samples(good_features(), bad_features(WIDTH), "features"))
    return [learner], lambda: learner.forget_features(features, labels), f"{told}|ExactHead"


@door
def forgetting_what_was_never_learned(draw: Draw) -> Attempt:
    learner = a_learner(draw)
    rows = draw(st.integers(1, 9))
    labels = draw(
        st.one_of(  # classes that nobody knows, more samples of a class than there are, or before anything is learned
            st.integers(4, 2**62).map(lambda label: torch.full((rows,), label)),
            st.just(torch.zeros(rows + 2, dtype=torch.int64)),
        )
    )
    images = good_images(len(labels), seed=draw(st.integers(0, 9)))
    return [learner], lambda: learner.forget(images, labels), "learned|ExactHead"


@door
def merging_learners(draw: Draw) -> Attempt:
    learner = a_learner(draw)
    made = made_learner("exact", True)
    other = draw(
        st.one_of(
            no_tensors,
            st.just(made.head),
            st.sampled_from(["recursive", "dual"]).map(lambda kind: deepcopy(made_learner(kind, True))),
            st.builds(  # another backbone, another projection, another width, another gamma, another scale
                lambda dim, seed, gamma: AnalyticLearner(
                    nn.Sequential(nn.Conv2d(1, WIDTH, SIDE), nn.Flatten()),
                    RandomBuffer(WIDTH, dim, seed),
                    ExactHead(dim, gamma),
                ),
                st.integers(1, 9),
                st.integers(0, 5),
                st.floats(0.2, 3),
            ),
        )
    )
    watched = [learner, other] if isinstance(other, nn.Module) else [learner]
    return watched, lambda: learner.merge(other), "merge|exactly"


@door
def merging_learners_with_another_gamma(draw: Draw) -> Attempt:
    learner, other = (a_learner(draw, kinds=["exact"], learned=True) for _ in range(2))
    other.head.gamma = draw(st.floats(0.2, 1e6))
    return [learner, other], lambda: learner.merge(other), "gamma"


@door
def merging_learners_with_classes_that_cannot_be_told_apart(draw: Draw) -> Attempt:
    learner, other = (a_learner(draw, kinds=["exact"], learned=True) for _ in range(2))
    learner.class_names = ("cat", "dog", "owl", "fox")
    names = draw(st.lists(st.sampled_from(["cat", "dog", "owl", "ant", "bee"]), min_size=1, max_size=6))
    other.class_names = tuple(names if len(names) < 4 else [*names, names[0]])  # nameless labels, or a name for two
    return [learner, other], lambda: learner.merge(other), "class"


@door
def predicting(draw: Draw) -> Attempt:
    learner, images = a_learner(draw), draw(bad_images())
    return [learner], lambda: learner.predict(images), f"{IMAGES}|nothing was learned"


@door
def predicting_before_learning(draw: Draw) -> Attempt:
    learner, rows = a_learner(draw, learned=False), draw(st.integers(0, 5))
    return [learner], lambda: learner.predict(good_images(rows)), "nothing was learned"


@door
def calibrating_learners(draw: Draw) -> Attempt:
    learner = a_learner(draw)
    features = draw(st.one_of(bad_features(WIDTH), st.just(torch.zeros(0, WIDTH))))
    return [learner], lambda: learner.calibrate(features), "features"


@door
def leverage_of_images(draw: Draw) -> Attempt:
    learner, images = a_learner(draw), draw(bad_images())
    return [learner], lambda: learner.leverage(images), f"{IMAGES}|nothing was learned|ExactHead"


@door
def extracting(draw: Draw) -> Attempt:
    learner = a_learner(draw)
    unfit = st.integers(2, 5).map(lambda channels: torch.rand(3, channels, SIDE, SIDE))
    images = draw(st.one_of(bad_images().filter(lambda images: not fits_backbone(images)), unfit))
    return [learner], lambda: learner.extract(images), IMAGES


def fits_backbone(images: object) -> bool:
    """Larger images than the buffer layer expects are no error of the backbone."""
    return isinstance(images, Tensor) and images.ndim == 4 and images.shape[1] == 1 and min(images.shape[2:]) >= SIDE


@door
def saving(draw: Draw) -> Attempt:
    learner = a_learner(draw)
    path: Any = Path("/nowhere/model")
    notes: Any = None
    told = "path|cannot write"
    if draw(st.booleans()):
        path = draw(st.one_of(bad_paths, st.sampled_from(["/", "", "..", "/nowhere/model", "/tmp/" + 300 * "a"])))
    else:
        notes = draw(st.one_of(st.integers(), st.text(min_size=1), st.just({"a": object()}), st.just({"a": {1, 2}})))
        told = "notes|JSON"
    return [learner], lambda: learner.save(path, notes), told


@door
def loading(draw: Draw) -> Attempt:
    backbone = small_backbone()
    path = draw(st.one_of(bad_paths, st.sampled_from(["/", "", "..", "/nowhere/model", "/tmp/" + 300 * "a", __file__])))
    return [backbone], lambda: AnalyticLearner.load(path, backbone), "path|model file"


@door
def taking_snapshots_before_learning(draw: Draw) -> Attempt:
    learner = a_learner(draw, learned=False)
    shape = draw(st.tuples(*3 * [st.integers(1, 9)]))
    call = draw(st.sampled_from([learner.snapshot, lambda: learner.export("model.onnx", shape)]))
    return [learner], call, "nothing was learned"


@door
def predicting_with_snapshots(draw: Draw) -> Attempt:
    classifier, images = a_learner(draw, learned=True).snapshot(), draw(bad_images())
    return [classifier], lambda: classifier.predict(images), IMAGES


@door
def exporting(draw: Draw) -> Attempt:
    learner = a_learner(draw, learned=True)
    path, shape, told = draw(
        st.one_of(
            st.tuples(bad_paths, st.just((1, SIDE, SIDE)), st.just("path")),
            st.tuples(st.text(max_size=5).map(lambda name: f"{name}.onyx"), st.none(), st.just("suffix|path|shape")),
            st.tuples(st.just("model.onnx"), bad_image_shapes, st.just("image_shape")),
        )
    )
    return [learner], lambda: learner.export(path, shape), told


@door
def building_learners(draw: Draw) -> Attempt:
    backbone = small_backbone()
    given: dict[str, Any] = {"backbone": backbone, "buffer": RandomBuffer(WIDTH, DIM), "head": ExactHead(DIM)}
    wrong = {
        "backbone": no_tensors,
        "buffer": st.one_of(no_tensors, st.just(nn.Identity()), st.integers(7, 9).map(lambda d: RandomBuffer(4, d))),
        "head": st.one_of(no_tensors, st.just(nn.Identity()), st.integers(7, 9).map(ExactHead)),
        "class_names": bad_class_names,
        "batch_size": bad_counts,
        "image_shape": bad_image_shapes.filter(lambda shape: shape is not None),
    }
    argument = draw(st.sampled_from(sorted(wrong)))
    given[argument] = draw(wrong[argument])
    return [backbone], lambda: AnalyticLearner(**given), argument


@door
def creating_learners(draw: Draw) -> Attempt:
    backbone = create_backbone("identity", channels=WIDTH)
    wrong: dict[str, tuple[st.SearchStrategy[Any], str]] = {
        "method": (bad_names, "method"),
        "buffer_size": (bad_counts, "dim"),
        "gamma": (bad_gammas, "gamma"),
        "bits": (bad_bits, "bits"),
        "seed": (bad_seeds, "seed"),
        "num_features": (bad_counts.filter(lambda count: count is not None), "features"),
        "class_names": (bad_class_names, "class_names"),
        "image_shape": (bad_image_shapes, "image_shape"),
        "recursive": (st.just(True), "gamma|recursion"),  # beside gamma="auto"
    }
    argument = draw(st.sampled_from(sorted(wrong)))
    value, told = draw(wrong[argument][0]), wrong[argument][1]
    given = {"buffer_size": DIM, argument: value}
    return [backbone], lambda: create_learner(backbone, **given), told


# --- doors of the heads ----------------------------------------------------------------------------------------------


@door
def learning_in_heads(draw: Draw) -> Attempt:
    head = a_head(draw)
    features, labels, told = draw(bad_samples(good_features(width=DIM), bad_features(DIM), "features"))
    return [head], lambda: head.learn(features, labels), told


@door
def learning_on_another_device(draw: Draw) -> Attempt:
    head = a_head(draw, kinds=[*EXACT, "recursive"])
    elsewhere = deepcopy(head).to("meta")
    samples = good_features(draw(st.integers(1, 9)), DIM), draw(st.integers(0, 9)) + good_labels()
    calls: list[Call] = [
        lambda: elsewhere.learn(*samples),
        lambda: elsewhere.learn_phase([samples]),
        lambda: elsewhere.calibrate(samples[0]),
    ]
    return [head], draw(st.sampled_from(calls)), "features must be on meta"


@door
def learning_phases_in_heads(draw: Draw) -> Attempt:
    head = a_head(draw)
    features, labels, told = draw(bad_samples(good_features(width=DIM), bad_features(DIM), "features"))
    batches = [(good_features(width=DIM, seed=seed), good_labels()) for seed in range(draw(st.integers(0, 3)))]
    batches.insert(draw(st.integers(0, len(batches))), (features, labels))
    return [head], lambda: head.learn_phase(batches), told


@door
def learning_phases_that_are_none(draw: Draw) -> Attempt:
    head = a_head(draw)
    good = good_features(width=DIM), good_labels()
    wrong = st.one_of(st.none(), st.integers(), st.text(min_size=1), st.just([*good, *good]), st.just(good))
    batches = draw(st.one_of(wrong, st.builds(lambda batch: [good, batch], wrong.filter(lambda one: one is not good))))
    return [head], lambda: head.learn_phase(batches), "batches"


@door
def calibrating_heads(draw: Draw) -> Attempt:
    head, features = a_head(draw), draw(bad_features(DIM))
    return [head], lambda: head.calibrate(features), "features"


@door
def forgetting_in_heads(draw: Draw) -> Attempt:
    head = a_head(draw, kinds=EXACT)
    features, labels, told = draw(bad_samples(good_features(width=DIM), bad_features(DIM), "features"))
    return [head], lambda: head.forget(features, labels), told


@door
def forgetting_in_heads_what_was_never_learned(draw: Draw) -> Attempt:
    head = a_head(draw, kinds=EXACT)
    label, rows = draw(st.sampled_from([4, 9, 2**40, 2**63 - 1])), draw(st.integers(1, 9))
    return [head], lambda: head.forget(good_features(rows, DIM), torch.full((rows,), label)), "learned"


@door
def merging_heads(draw: Draw) -> Attempt:
    head = a_head(draw, kinds=EXACT, learned=True)
    others = st.builds(
        lambda dim, gamma, bits: learned_head(ExactHead(dim, gamma, bits)),
        st.integers(1, 9),
        st.floats(0.2, 9),
        st.sampled_from([8, 16]),
    )
    foreign = st.sampled_from([RecursiveHead(DIM), DualStreamHead(DIM), FeatureMoments(DIM)])
    other = draw(st.one_of(no_tensors, others, foreign))
    watched = [head, other] if isinstance(other, nn.Module) else [head]
    return watched, lambda: draw(st.sampled_from([head.merge, head.subtract]))(other), "ExactHead|equal|gamma"


def learned_head(head: AnalyticHead) -> AnalyticHead:
    head.learn(good_features(width=head.dim), good_labels())
    return head


@door
def subtracting_what_was_never_learned(draw: Draw) -> Attempt:
    head = a_head(draw, kinds=EXACT, learned=True)
    other = head.fresh()
    other.learn(good_features(5, DIM, seed=draw(st.integers(0, 99))), draw(st.integers(4, 9)) + good_labels())
    return [head, other], lambda: head.subtract(other), "learned"


@door
def predicting_with_heads(draw: Draw) -> Attempt:
    head, features = a_head(draw), draw(bad_features(DIM))
    return [head], lambda: head.predict(features), "features|nothing was learned"


@door
def leverage_of_features(draw: Draw) -> Attempt:
    head, features = a_head(draw, kinds=EXACT), draw(bad_features(DIM))
    return [head], lambda: head.leverage(features), "features|nothing was learned"


@door
def building_heads(draw: Draw) -> Attempt:
    head = draw(st.sampled_from([ExactHead, RecursiveHead, DualStreamHead]))
    wrong = {"dim": bad_counts, "gamma": bad_gammas}
    if head is not RecursiveHead:
        wrong["bits"] = bad_bits
    if head is DualStreamHead:
        wrong["ratio"] = st.one_of(bad_positives, st.text())
    argument = draw(st.sampled_from(sorted(wrong)))
    given = {"dim": DIM, argument: draw(wrong[argument])}
    return [], lambda: head(**given), argument


@door
def creating_heads(draw: Draw) -> Attempt:
    name, gamma = draw(
        st.one_of(st.tuples(bad_names, st.just(1.0)), st.tuples(st.sampled_from(["exact", "recursive"]), bad_gammas))
    )
    return [], lambda: create_head(name, dim=DIM, gamma=gamma), "head|gamma"


# --- doors of the smaller parts --------------------------------------------------------------------------------------


@door
def building_quantizers(draw: Draw) -> Attempt:
    wrong = draw(bad_bits)
    return [], lambda: Quantizer(wrong), "bits"


@door
def calibrating_quantizers(draw: Draw) -> Attempt:
    quantizer = Quantizer()
    if draw(st.booleans()):
        quantizer.calibrate(good_features())
        features = draw(st.one_of(st.just(good_features()), bad_features(WIDTH)))
    else:
        wrong = bad_features(WIDTH).filter(lambda values: not is_calibration(values))
        too_large = st.floats(1e40, 1e300).map(lambda size: torch.full((3, 3), size, dtype=torch.float64))
        features = draw(st.one_of(wrong, too_large))
    return [quantizer], lambda: quantizer.calibrate(features), "features|fixed already"


def is_calibration(values: object) -> bool:
    """A quantiser takes rows of any width."""
    return isinstance(values, Tensor) and values.dtype == torch.float32 and values.ndim > 0 and values.numel() > 0


@door
def quantizing_before_calibration(draw: Draw) -> Attempt:
    quantizer, rows, seed = (
        draw(st.builds(Quantizer, st.sampled_from([8, 16]))),
        *draw(st.tuples(*2 * [st.integers(0, 9)])),
    )
    return [quantizer], lambda: quantizer(good_features(rows, seed=seed)), "calibrate"


@door
def building_buffers(draw: Draw) -> Attempt:
    name = draw(st.sampled_from(sorted(BUFFERS)))
    wrong = {"in_features": bad_counts, "dim": bad_counts, "seed": bad_seeds}
    argument = draw(st.sampled_from(sorted(wrong)))
    given = {"in_features": WIDTH, "dim": DIM, argument: draw(wrong[argument])}
    return [], lambda: create_buffer(name, **given), argument


@door
def creating_buffers(draw: Draw) -> Attempt:
    name = draw(bad_names)
    return [], lambda: create_buffer(name, in_features=WIDTH, dim=DIM), "buffer layer"


@door
def calibrating_buffers(draw: Draw) -> Attempt:
    buffer = create_buffer(draw(st.sampled_from(sorted(BUFFERS))), in_features=WIDTH, dim=DIM)
    too_large = st.floats(1e39, 1e300).map(lambda size: torch.full((3, WIDTH), size, dtype=torch.float64))
    features = draw(st.one_of(bad_features(WIDTH), st.just(torch.zeros(0, WIDTH)), too_large))
    return [buffer], lambda: buffer.calibrate(features), "features"


@door
def calibrating_buffers_again(draw: Draw) -> Attempt:
    buffer = create_buffer(draw(st.sampled_from(["fourier", "gaussian-kernel"])), in_features=WIDTH, dim=DIM)
    buffer.calibrate(good_features(seed=draw(st.integers(0, 9))))
    return [buffer], lambda: buffer.calibrate(good_features(seed=draw(st.integers(0, 99)))), "fixed already"


@door
def adding_to_moments(draw: Draw) -> Attempt:
    moments = some_moments()
    rows, labels = torch.ones(5, DIM, dtype=torch.int8), good_labels()
    told = "labels"
    if draw(st.booleans()):
        labels = draw(bad_labels())
    else:
        told = "rows"
        rows = draw(
            st.one_of(
                no_tensors,
                shapes.filter(lambda shape: shape[1:] != (DIM,)).map(lambda shape: torch.ones(shape, dtype=torch.int8)),
                st.sampled_from([torch.float32, torch.int32, torch.int64, torch.uint8, torch.bool]).map(rows.to),
                st.just(rows.clone().fill_(-128)),
                st.sampled_from([-32768, 32767, 32513]).map(lambda value: rows.to(torch.int16).fill_(value)),
                without_values((5, DIM), torch.int8),
            )
        )
    return [moments], lambda: moments.add(rows, labels), told


def some_moments() -> FeatureMoments:
    moments = FeatureMoments(DIM)
    moments.add(torch.arange(5 * DIM).reshape(5, DIM).to(torch.int8), good_labels())
    return moments


@door
def merging_moments(draw: Draw) -> Attempt:
    moments = some_moments()
    other = draw(
        st.one_of(
            no_tensors, st.integers(1, 20).filter(lambda dim: dim != DIM).map(FeatureMoments), st.just(nn.Module())
        )
    )
    call = draw(st.sampled_from([moments.merge, moments.subtract]))
    return [moments], lambda: call(other), "moments|Moments"


@door
def merging_moments_under_wrong_labels(draw: Draw) -> Attempt:
    moments, other = some_moments(), some_moments()
    twice = st.integers(0, 9).map(lambda label: torch.tensor([label, label, 3]))
    labels = draw(st.one_of(bad_labels(3).filter(lambda labels: labels is not None), twice))
    return [moments, other], lambda: moments.merge(other, labels), "label"


@door
def taking_from_moments_what_is_not_in_them(draw: Draw) -> Attempt:
    moments, other = some_moments(), FeatureMoments(DIM)
    value, label, rows = draw(st.tuples(st.integers(1, 127), st.integers(0, 4), st.integers(1, 6)))
    other.add(torch.full((rows, DIM), value, dtype=torch.int8), torch.full((rows,), label))
    other.autocorrelation += 10**6  # more than any of the rows has
    return [moments, other], lambda: moments.subtract(other), "learned"


@door
def creating_backbones(draw: Draw) -> Attempt:
    wrong = {
        "name": (st.one_of(bad_names, st.just("resnet19")), "backbone"),
        "channels": (bad_counts, "channels"),
        "checkpoint": (st.one_of(bad_paths.filter(lambda p: p is not None), st.just("/nowhere")), "path|checkpoint"),
    }
    argument = draw(st.sampled_from(sorted(wrong)))
    strategy, told = wrong[argument]
    given = {"name": "identity", "channels": WIDTH, argument: draw(strategy)}
    return [], lambda: create_backbone(**given), told


@pytest.mark.parametrize("name", DOORS)
def test_invalid_calls_change_nothing(name: str) -> None:
    calls = 0

    @CALLS
    @given(st.data())
    def call_it(data: st.DataObject) -> None:
        nonlocal calls
        watched, call, told = DOORS[name](data.draw)
        before = [bits(module) for module in watched]
        with pytest.raises(ValueError) as refusal:
            call()
        assert re.search(told, str(refusal.value)), str(refusal.value)
        assert [bits(module) for module in watched] == before
        calls += 1

    call_it()
    assert calls >= 20


def test_there_are_enough_of_them() -> None:
    assert 20 * len(DOORS) >= 500


# --- calls that break off --------------------------------------------------------------------------------------------


class FailingBackbone(nn.Module):
    """Breaks in the batch of that number."""

    def __init__(self, batch: int, error: BaseException) -> None:
        super().__init__()
        self.left = batch
        self.error = error

    def forward(self, images: Tensor) -> Tensor:
        if not self.left:
            raise self.error
        self.left -= 1
        return images.flatten(1)[:, :WIDTH]


ERRORS = [RuntimeError("no more"), KeyboardInterrupt(), MemoryError("full"), OSError("gone"), ValueError("bad")]


@given(
    kind=st.sampled_from(sorted(PARTS)), learned=st.booleans(), batch=st.integers(0, 2), error=st.sampled_from(ERRORS)
)
@CALLS
def test_a_backbone_that_breaks_leaves_the_learner_as_it_was(
    kind: str, learned: bool, batch: int, error: BaseException
) -> None:
    learner = deepcopy(made_learner(kind, learned))
    learner.backbone = FailingBackbone(batch, error)
    learner.freeze()
    before = bits(learner)
    with pytest.raises((ValueError, type(error))) as broken:
        learner.learn(good_images(6), good_labels(6))
    assert error in (broken.value, broken.value.__cause__)
    assert bits(learner) == before


@given(
    kind=st.sampled_from(sorted(PARTS)),
    learned=st.booleans(),
    batches=st.integers(0, 6),
    together=st.sampled_from([1, 7, 16_384]),
    error=st.sampled_from(ERRORS),
)
@CALLS
def test_a_phase_that_breaks_off_was_never_begun(
    kind: str, learned: bool, batches: int, together: int, error: BaseException
) -> None:
    head = deepcopy(made_learner(kind, learned)).head
    before = bits(head)

    def phase() -> Iterator[tuple[Tensor, Tensor]]:
        for seed in range(batches):
            yield good_features(width=DIM, seed=seed), good_labels() + seed
        raise error

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exact_module, "PRODUCT_ROWS", together)
        with pytest.raises(type(error)):
            head.learn_phase(phase())
    assert bits(head) == before
    features, labels = good_features(width=DIM), good_labels()
    head.learn(features, labels)  # and it goes on as if nothing had been
    undisturbed = deepcopy(made_learner(kind, learned)).head
    undisturbed.learn(features, labels)
    assert bits(head) == bits(undisturbed)
    assert torch.equal(head.weight, undisturbed.weight)


@pytest.mark.parametrize(
    ("buffer", "head", "size"),
    [
        (FourierBuffer(WIDTH, DIM), RecursiveHead(DIM, gamma=1e-14), 1.0),  # the head cannot hold such a gamma
        (GaussianKernelBuffer(WIDTH, DIM), ExactHead(DIM), 1e30),  # squared distances overflow
    ],
)
def test_a_first_phase_that_fails_after_calibration_leaves_no_calibration(
    buffer: Buffer, head: AnalyticHead, size: float
) -> None:
    learner = AnalyticLearner(nn.Flatten(), buffer, head)
    before = bits(learner)
    with pytest.raises(ValueError, match="features"):
        learner.learn_features(size * good_features(), good_labels())
    assert bits(learner) == before


def test_a_calibration_is_whole_or_not_at_all() -> None:
    learner = AnalyticLearner(nn.Flatten(), GaussianKernelBuffer(WIDTH, DIM), ExactHead(DIM))
    with pytest.raises(ValueError, match="features"):
        learner.calibrate(1e30 * good_features())
    assert not learner.buffer.is_calibrated


def test_tiny_features_are_no_invalid_ones() -> None:
    buffer = FourierBuffer(2, DIM)
    buffer.calibrate(torch.tensor([[1e-44, 0.0], [0.0, 0.0]]))
    assert buffer.is_calibrated
    assert torch.isfinite(buffer(torch.zeros(3, 2))).all()
