"""Where a growing classifier without gradients usually breaks metrics, loggers, hooks and checkpoints."""

from __future__ import annotations

import math

import pytest
import torch
from avalanche.benchmarks import class_incremental_benchmark, split_online_stream, with_task_labels
from avalanche.benchmarks.scenarios.deprecated.generators import nc_benchmark, ni_benchmark
from avalanche.checkpointing import maybe_load_checkpoint, save_checkpoint
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metrics import (
    accuracy_metrics,
    amca_metrics,
    bwt_metrics,
    class_accuracy_metrics,
    confusion_matrix_metrics,
    cpu_usage_metrics,
    forgetting_metrics,
    forward_transfer_metrics,
    loss_metrics,
    timing_metrics,
    topk_acc_metrics,
)
from avalanche.logging import CSVLogger, InteractiveLogger, TensorboardLogger, TextLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import nn

from acil import AnalyticLearner, RandomBuffer
from acil.strategies import ACIL

HOOKS = [name for name in dir(SupervisedPlugin) if name.startswith(("before_", "after_"))]
STREAM = "eval_phase/test_stream/Task000"


class Recorder(SupervisedPlugin):
    """Notes every hook in the order of the calls."""

    def __init__(self):
        super().__init__()
        self.calls = []


for hook in HOOKS:
    setattr(Recorder, hook, lambda self, strategy, name=hook, **kwargs: self.calls.append(name))


class Logits(SupervisedPlugin):
    """Keeps the logits and labels of every mini-batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def after_forward(self, strategy, **kwargs):
        self.seen.append((strategy.mb_output, strategy.mb_y, strategy.model.classes))

    after_eval_forward = after_forward


def usual_metrics(images=True):
    return [
        *accuracy_metrics(minibatch=True, epoch=True, epoch_running=True, experience=True, stream=True),
        *loss_metrics(minibatch=True, epoch=True, epoch_running=True, experience=True, stream=True),
        *topk_acc_metrics(top_k=2, minibatch=True, epoch=True, experience=True, stream=True),
        *class_accuracy_metrics(epoch=True, experience=True, stream=True),
        *forgetting_metrics(experience=True, stream=True),
        *bwt_metrics(experience=True, stream=True),
        *forward_transfer_metrics(experience=True, stream=True),
        *timing_metrics(epoch=True, experience=True, stream=True),
        *cpu_usage_metrics(epoch=True, experience=True, stream=True),
        confusion_matrix_metrics(stream=True, save_image=images, absolute_class_order=True),
        amca_metrics(),
    ]


def evaluator(*metrics, loggers=()):
    return EvaluationPlugin(*metrics, loggers=list(loggers))


def test_classes_not_learned_yet_give_a_finite_loss_on_the_whole_test_stream(any_learner, splits):
    strategy = ACIL(model=any_learner, evaluator=evaluator(loss_metrics(experience=True, stream=True)))
    strategy.train(splits.train_stream[0])
    results = strategy.eval(splits.test_stream)
    assert all(math.isfinite(value) for value in results.values())
    assert len(results) == 5  # four experiences and the stream


@pytest.mark.parametrize("wanted", [1, 2])
def test_top_k_accuracy_is_that_of_the_logits_of_learned_classes(any_learner, splits, patches, wanted):
    strategy = ACIL(model=any_learner, evaluator=evaluator(topk_acc_metrics(top_k=wanted, stream=True)))
    test = patches(range(8), 4, seed=5)
    for experience in splits.train_stream:
        strategy.train(experience)
        results = strategy.eval(splits.test_stream)
        best = any_learner.classes[any_learner(test.images).topk(wanted).indices]
        expected = (best == torch.tensor(test.targets)[:, None]).any(dim=1).float().mean()
        assert results[f"Topk_{wanted}_Acc_Stream/{STREAM}"] == pytest.approx(float(expected))


def test_logits_reach_exactly_to_the_largest_label(any_learner, splits):
    logits = Logits()
    strategy = ACIL(model=any_learner, evaluator=None, plugins=[logits])
    for experience in splits.train_stream:
        strategy.train(experience)
        strategy.eval(splits.test_stream)
    for output, labels, classes in logits.seen:
        known = max(classes.tolist(), default=0)
        assert 1 + max(known, int(labels.max())) <= output.shape[1] <= 8
    assert logits.seen[0][0].shape[1] == 2


def test_a_class_that_was_never_learned_has_a_finite_logit_and_never_wins(any_learner, splits, monkeypatch):
    logits = Logits()
    strategy = ACIL(model=any_learner, evaluator=None, plugins=[logits])
    strategy.train(splits.train_stream[2])
    logits.seen.clear()
    monkeypatch.setattr(any_learner, "classify", lambda features: torch.full((len(features), 2), -50.0))
    strategy.eval(splits.test_stream)
    assert len(logits.seen) == 4
    for output, _, classes in logits.seen:
        assert torch.isfinite(output).all()
        assert torch.isin(output.argmax(dim=1), classes).all()


def test_the_learner_itself_gives_logits_of_learned_classes_only(any_learner, splits, patches):
    strategy = ACIL(model=any_learner, evaluator=None)
    strategy.train(splits.train_stream[2])
    strategy.eval(splits.test_stream)
    assert any_learner(patches([4], 3).images).shape == (3, 2)
    assert any_learner.classes.tolist() == [4, 5]


def test_evaluation_before_the_first_training_works(any_learner, splits):
    strategy = ACIL(model=any_learner, eval_every=0, evaluator=evaluator(*usual_metrics()))
    assert strategy.eval(splits.test_stream)[f"Loss_Stream/{STREAM}"] > 0
    strategy.train(splits.train_stream[0], eval_streams=[splits.test_stream])
    strategy.train(splits.train_stream[1])


def test_forward_transfer_is_positive_where_classes_repeat(any_learner, patches):
    train, test = patches(range(4), 12), patches(range(4), 8, seed=5)
    benchmark = ni_benchmark(train, test, n_experiences=3, seed=1, balance_experiences=True)
    metrics = forward_transfer_metrics(experience=True, stream=True)
    strategy = ACIL(model=any_learner, eval_every=0, evaluator=evaluator(metrics))
    tests = class_incremental_benchmark({"test": test}, num_experiences=4, class_order=range(4)).test_stream
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[tests])
    results = strategy.eval(tests)
    assert results["StreamForwardTransfer/eval_phase/test_stream"] > 0.5


def test_a_model_without_parameters_is_fine(splits, learner):
    bare = AnalyticLearner(nn.Flatten(), RandomBuffer(36, 64), learner.head)
    assert not list(bare.parameters())
    strategy = ACIL(model=bare, evaluator=evaluator(*usual_metrics()), eval_every=1)
    strategy.train(splits.train_stream, eval_streams=[splits.test_stream])
    assert strategy.eval(splits.test_stream)[f"Top1_Acc_Stream/{STREAM}"] > 0.9


def test_experiences_that_do_not_tell_their_classes_can_be_evaluated(any_learner, splits):
    online = list(split_online_stream(splits.train_stream, experience_size=9, seed=0))
    assert not hasattr(online[0], "classes_in_this_experience")
    strategy = ACIL(model=any_learner, eval_every=0, evaluator=None)
    for experience in online:
        strategy.train(experience)
    strategy.eval(online)


def benchmark_of(kind, train, test):
    if kind == "classes":  # metrics need task labels; the image of a confusion matrix needs an nc_benchmark
        both = {"train": train, "test": test}
        return with_task_labels(class_incremental_benchmark(both, num_experiences=4, seed=1))
    return nc_benchmark(train, test, n_experiences=4, task_labels=kind == "tasks", seed=1)


@pytest.fixture
def loggers(tmp_path):
    with (tmp_path / "log.txt").open("w") as text:
        csv, board = CSVLogger(str(tmp_path / "csv")), TensorboardLogger(tmp_path / "board")
        yield [InteractiveLogger(), TextLogger(text), csv, board]
        csv.close()
        board.writer.close()


@pytest.mark.parametrize("kind", ["one task", "tasks", "classes"])
def test_all_usual_metrics_and_loggers_work_at_once(any_learner, patches, tmp_path, loggers, kind):
    benchmark = benchmark_of(kind, patches(range(8), 12), patches(range(8), 4, seed=5))
    metrics = evaluator(*usual_metrics(images=kind != "classes"), loggers=loggers)
    strategy = ACIL(model=any_learner, eval_every=0, evaluator=metrics)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[benchmark.test_stream])
        results = strategy.eval(benchmark.test_stream)
    assert results["StreamForgetting/eval_phase/test_stream"] < 0.1
    assert max(value for name, value in results.items() if name.startswith("Loss_Stream")) < 2
    assert (tmp_path / "csv" / "eval_results.csv").read_text().count("\n") > 4
    assert any((tmp_path / "board").iterdir())


def test_hooks_come_in_the_order_of_a_naive_strategy(any_learner, splits):
    ours, theirs = Recorder(), Recorder()
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8))
    settings = {"train_mb_size": 10, "eval_mb_size": 5, "evaluator": None, "eval_every": 0}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    naive = Naive(model=model, optimizer=optimizer, plugins=[theirs], **settings)
    for strategy in (naive, ACIL(model=any_learner, plugins=[ours], **settings)):
        for experience in splits.train_stream[:2]:
            strategy.train(experience, eval_streams=[splits.test_stream])
        strategy.eval(splits.test_stream)
    assert set(ours.calls) == set(HOOKS)
    assert ours.calls == theirs.calls


def test_a_run_resumes_from_an_avalanche_checkpoint_with_the_same_result(any_learner, splits, tmp_path):
    fresh = any_learner.fresh()
    metrics = evaluator(accuracy_metrics(stream=True), forgetting_metrics(stream=True))
    strategy = ACIL(model=any_learner, evaluator=metrics)
    for experience in splits.train_stream[:2]:
        strategy.train(experience)
        strategy.eval(splits.test_stream)
    save_checkpoint(strategy, tmp_path / "checkpoint.pkl")
    resumed, start = maybe_load_checkpoint(ACIL(model=fresh, evaluator=None), tmp_path / "checkpoint.pkl")
    assert start == 2
    for experience in splits.train_stream[2:]:
        strategy.train(experience)
        resumed.train(experience)
    assert torch.equal(resumed.model.head.weight, strategy.model.head.weight)
    assert resumed.eval(splits.test_stream)[f"Top1_Acc_Stream/{STREAM}"] > 0.9
    assert resumed.evaluate(splits.test_stream) == strategy.evaluate(splits.test_stream)


def test_stopping_early_learns_what_was_seen_and_spoils_no_later_experience(learner, splits, patches):
    class StopOnce(SupervisedPlugin):
        def after_training_iteration(self, strategy, **kwargs):
            if strategy.clock.train_exp_counter == 0:
                strategy.stop_training()

    strategy = ACIL(model=learner, train_mb_size=10, evaluator=None, plugins=[StopOnce()])
    strategy.train(splits.train_stream)
    assert learner.classes.tolist() == [0, 2, 3, 4, 5, 6, 7]  # one mini-batch of ten, then all others
    assert learner.head.counts.tolist() == [10] + [12] * 6
