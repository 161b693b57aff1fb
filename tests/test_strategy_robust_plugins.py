"""Logit and open-set plugins, with Avalanche's own strategies and as part of base training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from avalanche.benchmarks.scenarios.deprecated.generators import nc_benchmark
from avalanche.core import BaseSGDPlugin
from avalanche.logging import BaseLogger
from avalanche.training import LwF, Naive, Replay
from avalanche.training.plugins import EvaluationPlugin
from scipy import stats
from torch import Tensor, nn

from acil import create_learner
from acil.backbones import create_backbone
from acil.losses import LogitClip, LogitNorm
from acil.scenarios import LabelledTensors, class_incremental
from acil.strategies import ACIL
from acil.strategies.base_training import base_training
from acil.strategies.logits import LogitClipPlugin, LogitNormPlugin, LogitPlugin
from acil.strategies.open_set import ODNLPlugin, OpenSamplingPlugin, OpenSetPlugin, open_set_plugin

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = 6
SHAPE = (1, 8, 8)
Strategy = Callable[..., Any]


def images(n: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, *SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def benchmark(counts: list[int] | None = None, experiences: int = 2) -> Any:
    sizes = counts or [12] * CLASSES
    targets = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    data = LabelledTensors(images(len(targets)), targets)
    return nc_benchmark(data, data, n_experiences=experiences, task_labels=False, shuffle=False)


def network(outputs: int = CLASSES) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, outputs))


def naive(model: nn.Module, **options: Any) -> Any:
    return Naive(**standard(model, **options))


def replay(model: nn.Module, **options: Any) -> Any:
    return Replay(mem_size=10, **standard(model, **options))


def lwf(model: nn.Module, **options: Any) -> Any:
    return LwF(alpha=1.0, temperature=2.0, **standard(model, **options))


def standard(model: nn.Module, **options: Any) -> dict[str, Any]:
    torch.manual_seed(1)
    return {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), 0.05),
        "criterion": nn.CrossEntropyLoss(),
        "train_mb_size": 8,
        "train_epochs": 2,
        "evaluator": EvaluationPlugin(loggers=[BaseLogger()]),
        **options,
    }


def trained(make: Strategy, data: Any, **options: Any) -> list[Tensor]:
    model = network()
    strategy = make(model, **options)
    for experience in data.train_stream:
        strategy.train(experience, eval_streams=[])
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


class Watch(BaseSGDPlugin):
    """Records what other plugins see."""

    def __init__(self) -> None:
        super().__init__()
        self.forwarded: list[int] = []
        self.seen: list[tuple[int, int, int]] = []
        self.outputs: list[Tensor] = []

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.forwarded.append(len(strategy.mb_x))

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.seen.append((len(strategy.mb_x), len(strategy.mb_y), len(strategy.mb_output)))
        self.outputs.append(strategy.mb_output.detach().clone())


@pytest.mark.parametrize("make", [naive, replay, lwf])
@pytest.mark.parametrize(
    "plugin",
    [
        lambda: LogitClipPlugin(tau=0.1),
        lambda: LogitNormPlugin(tau=0.5),
        lambda: ODNLPlugin(images(30, seed=1), eta=1.0),
        lambda: OpenSamplingPlugin(images(30, seed=1), eta=1.0, batch_size=20),
    ],
    ids=["LogitClip", "LogitNorm", "ODNL", "Open-Sampling"],
)
def test_plugins_change_what_avalanche_strategies_learn(make: Strategy, plugin: Callable[[], BaseSGDPlugin]) -> None:
    data = benchmark()
    learned = trained(make, data, plugins=[plugin()])
    assert all(tensor.isfinite().all() for tensor in learned)
    assert same(learned, trained(make, data, plugins=[plugin()]))
    assert not same(learned, trained(make, data))


@pytest.mark.parametrize(
    ("plugin", "criterion"),
    [
        (lambda: LogitClipPlugin(tau=0.3, p=1), LogitClip(tau=0.3, p=1)),
        (lambda: LogitNormPlugin(0.2), LogitNorm(tau=0.2)),
    ],
)
def test_a_logit_plugin_trains_as_its_criterion_does(plugin: Callable[[], LogitPlugin], criterion: nn.Module) -> None:
    data = benchmark()
    assert same(trained(naive, data, plugins=[plugin()]), trained(naive, data, criterion=criterion))


def test_plugins_after_a_logit_plugin_see_the_logits_of_the_model() -> None:
    data = benchmark(experiences=1)
    watch = Watch()
    model = network()
    naive(model, plugins=[LogitClipPlugin(tau=1e-3), watch], train_epochs=1).train(data.train_stream[0])
    assert all((logits.norm(dim=1) > 1e-2).any() for logits in watch.outputs)


@pytest.mark.parametrize("clip_first", [True, False])
def test_logit_and_open_set_plugins_work_together_in_either_order(clip_first: bool) -> None:
    data = benchmark(experiences=1)
    watch = Watch()
    pair = [LogitClipPlugin(tau=0.1), ODNLPlugin(images(30, seed=1))]
    naive(network(), plugins=[*(pair if clip_first else pair[::-1]), watch]).train(data.train_stream[0])
    assert set(watch.seen) == {(8, 8, 8)}
    assert all((logits.norm(dim=1) > 0.11).any() for logits in watch.outputs)


def test_logits_are_left_alone_while_evaluating() -> None:
    data = benchmark(experiences=1)
    model = network()
    strategy = naive(model, plugins=[LogitNormPlugin(tau=1e-3)])
    strategy.train(data.train_stream[0])
    seen: list[Tensor] = []
    strategy.plugins.append(
        type("Keep", (BaseSGDPlugin,), {"after_eval_forward": lambda _, s, **k: seen.append(s.mb_output)})()
    )
    strategy.eval(data.test_stream)
    inputs = torch.stack([data.test_stream[0].dataset[i][0] for i in range(len(data.test_stream[0].dataset))])
    assert torch.allclose(torch.cat(seen), model.eval()(inputs), atol=1e-5)


def test_without_weight_an_open_set_plugin_changes_no_bit() -> None:
    data = benchmark()
    foreign = images(30, seed=1)
    assert same(trained(naive, data, plugins=[ODNLPlugin(foreign, eta=0)]), trained(naive, data))


def test_foreign_images_are_forwarded_with_the_minibatch_and_nobody_else_sees_them() -> None:
    data = benchmark(experiences=1)
    first, last = Watch(), Watch()
    strategy = naive(network(), plugins=[first, ODNLPlugin(images(5, seed=1), batch_size=13), last], train_epochs=1)
    strategy.train(data.train_stream[0])
    assert first.forwarded == [8] * 9
    assert last.forwarded == [21] * 9
    assert first.seen == last.seen == [(8, 8, 8)] * 9


def test_open_sampling_takes_four_foreign_images_for_each_sample() -> None:
    data = benchmark(experiences=1)
    watch = Watch()
    strategy = naive(network(), plugins=[OpenSamplingPlugin(images(5, seed=1)), watch], train_epochs=1)
    strategy.train(data.train_stream[0])
    assert watch.forwarded == [40] * 9


def test_task_labels_grow_with_the_images() -> None:
    targets = torch.arange(12) % 4
    data = LabelledTensors(images(12), targets)
    tasks = nc_benchmark(data, data, n_experiences=2, task_labels=True, shuffle=False)
    model = network()
    strategy = naive(model, plugins=[ODNLPlugin(images(9, seed=1), eta=1.0)])
    for experience in tasks.train_stream:
        strategy.train(experience)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


class Drawn(BaseSGDPlugin):
    """Counts the labels that foreign logits were trained with, by the sign of their gradients."""

    def __init__(self, of: OpenSetPlugin) -> None:
        super().__init__()
        self.labels: list[Tensor] = []
        inner = of._loss

        def recording(logits: Tensor) -> Tensor:
            leaf = logits.detach().requires_grad_()
            state = torch.get_rng_state()
            (slope,) = torch.autograd.grad(inner(leaf), leaf)
            torch.set_rng_state(state)
            self.labels.append(slope.argmin(dim=1))
            return inner(logits)

        of._loss = recording  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", [ODNLPlugin, OpenSamplingPlugin])
def test_foreign_labels_follow_their_distribution_and_are_drawn_anew(kind: type[OpenSetPlugin]) -> None:
    counts = [40, 20, 10, 5, 3, 2]
    data = benchmark(counts, experiences=1)
    plugin = kind(images(1, seed=1), 1.0, 64)
    drawn = Drawn(plugin)
    naive(network(), plugins=[plugin], train_epochs=4).train(data.train_stream[0])
    labels = torch.cat(drawn.labels)
    observed = np.bincount(labels.numpy(), minlength=CLASSES)
    assert stats.chisquare(observed, len(labels) * plugin.distribution.numpy()).pvalue > 1e-4
    assert any(not torch.equal(drawn.labels[0], later) for later in drawn.labels[1:])


def test_the_expected_gradient_of_odnl_is_that_of_uniform_targets() -> None:
    plugin = ODNLPlugin(images(1), eta=1.0)
    plugin.classes = torch.arange(CLASSES)
    plugin.distribution = plugin.label_distribution(torch.full((CLASSES,), 1 / CLASSES, dtype=torch.float64))
    plugin.weights = plugin.label_weights(plugin.distribution)
    torch.manual_seed(0)
    row = torch.randn(1, CLASSES)
    many = row.expand(200_000, CLASSES).clone().requires_grad_()
    (drawn,) = torch.autograd.grad(plugin._loss(many), many)
    uniform = F.softmax(row, dim=1) - 1 / CLASSES
    assert torch.allclose(drawn.sum(dim=0, keepdim=True), uniform, atol=5e-3)


def test_the_complementary_distribution_is_the_published_one() -> None:
    counts = torch.tensor([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50], dtype=torch.float64)
    plugin = OpenSamplingPlugin(images(1))
    distribution = plugin.label_distribution(counts / counts.sum())
    expected = [0.00131, 0.05389, 0.08542, 0.10429, 0.11564, 0.12241, 0.12648, 0.12892, 0.13039, 0.13125]
    assert distribution.tolist() == pytest.approx(expected, abs=1e-5)
    assert plugin.label_weights(distribution).tolist() == pytest.approx([10 * share for share in expected], abs=1e-4)


def test_enough_open_set_labels_make_the_prior_uniform() -> None:
    prior = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    distribution = OpenSamplingPlugin(images(1), alpha=0.5).label_distribution(prior)
    per_sample = 4 * 0.5 - 1
    assert torch.allclose((prior + per_sample * distribution) / (1 + per_sample), torch.full_like(prior, 0.25))
    assert distribution[0] == 0


def test_the_open_sampling_loss_is_normalised_by_its_weights() -> None:
    plugin = OpenSamplingPlugin(images(1))
    plugin.classes = torch.tensor([1, 3, 4])
    plugin.distribution = plugin.label_distribution(torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64))
    plugin.weights = plugin.label_weights(plugin.distribution)
    torch.manual_seed(0)
    logits = torch.randn(50, CLASSES, dtype=torch.float64)
    state = torch.get_rng_state()
    loss = plugin._loss(logits)
    torch.set_rng_state(state)
    places = torch.multinomial(plugin.distribution, 50, replacement=True)
    weights = plugin.weights[places]
    each = -F.log_softmax(logits, dim=1)[torch.arange(50), plugin.classes[places]]
    assert torch.allclose(loss, (weights * each).sum() / weights.sum())


@pytest.mark.parametrize(
    "make",
    [
        lambda: ODNLPlugin(images(3), eta=-1),
        lambda: ODNLPlugin(images(3), eta=float("nan")),
        lambda: ODNLPlugin(images(0)),
        lambda: ODNLPlugin(images(3), batch_size=0),
        lambda: open_set_plugin("odln:2", images(3)),
        lambda: open_set_plugin("odnl:much", images(3)),
        lambda: open_set_plugin("open-sampling:-1", images(3)),
        lambda: OpenSamplingPlugin(images(3), alpha=0.2).label_distribution(torch.tensor([0.6, 0.4])),
        lambda: LogitClipPlugin(tau=-1),
        lambda: LogitClipPlugin(p=0),
        lambda: LogitNormPlugin(tau=0),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|needs|there is no|above 0"):
        make()


def test_foreign_images_of_another_shape_are_refused() -> None:
    data = benchmark(experiences=1)
    with pytest.raises(ValueError, match=r"shaped like the training images"):
        naive(network(), plugins=[ODNLPlugin(torch.zeros(4, 3, 8, 8))]).train(data.train_stream[0])


def test_open_set_methods_go_by_name() -> None:
    plugin = open_set_plugin("odnl:3.5", images(3))
    assert (type(plugin), plugin.eta) == (ODNLPlugin, 3.5)
    assert open_set_plugin("open-sampling", images(3)).eta == 1.0


def test_foreign_images_may_be_any_data_set() -> None:
    data = benchmark(experiences=1)
    foreign = LabelledTensors(images(30, seed=1), torch.zeros(30, dtype=torch.int64))
    as_tensor = trained(naive, data, plugins=[ODNLPlugin(images(30, seed=1))])
    as_data_set = trained(naive, data, plugins=[ODNLPlugin(foreign)])
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(as_tensor, as_data_set, strict=True))


def test_base_training_with_open_set_images_feeds_an_exact_strategy() -> None:
    targets = torch.arange(60) % 4
    data = LabelledTensors(torch.randint(0, 256, (60, 1, 16, 16), dtype=torch.uint8), targets)
    stream = class_incremental(data, data, phases=2, base_classes=2).train_stream
    foreign = torch.randint(0, 256, (20, 1, 16, 16), dtype=torch.uint8)
    backbone, classes = create_backbone("convnet", channels=1), stream[0].classes_in_this_experience
    training = base_training(
        backbone, classes, epochs=1, criterion=LogitClip(), augmentation="affine", plugins=[ODNLPlugin(foreign)]
    )
    strategy = ACIL(model=create_learner(backbone, buffer_size=64), base_training=training)
    strategy.train(stream)
    assert strategy.model.classes.tolist() == [0, 1, 2, 3]
