"""What both heads promise, and what each promises alone."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import Tensor

from acil import AnalyticHead, ExactHead, RecursiveHead
from acil.errors import NotLearnedError, SingularMomentsError
from acil.head import exact as exact_module

Samples = tuple[Tensor, Tensor]


def samples(n: int, dim: int, seed: int, labels: tuple[int, ...] = (0, 1, 2, 5, 10**6)) -> Samples:
    """Rectified normal features, and labels drawn from ``labels``."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.relu(torch.randn(n, dim, generator=generator, dtype=torch.float64))
    picked = torch.randint(0, len(labels), (n,), generator=generator)
    return features, torch.tensor(labels)[picked]


def ridge(rows: Tensor, labels: Tensor, gamma: float) -> np.ndarray:
    """The joint solution by scikit-learn."""
    targets = (labels[:, None] == torch.unique(labels)[None]).double()
    model = Ridge(alpha=gamma, fit_intercept=False, solver="cholesky")
    return np.atleast_2d(model.fit(rows.numpy(), targets.numpy()).coef_).T


def state(head: AnalyticHead) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in head.state_dict().items()}


def same_state(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


partitions = st.lists(st.integers(1, 40), min_size=1, max_size=12)


class AnalyticHeadContract:
    """The laws of every head; a subclass says how to build one and how its weights compare."""

    def build(self, dim: int, gamma: float = 0.1) -> AnalyticHead:
        raise NotImplementedError

    def rows(self, head: AnalyticHead, features: Tensor) -> Tensor:
        """The rows that the head's weights are the ridge solution of."""
        raise NotImplementedError

    def assert_equal(self, one: AnalyticHead, other: AnalyticHead) -> None:
        raise NotImplementedError

    @given(sizes=partitions, seed=st.integers(0, 99), dim=st.sampled_from([1, 3, 17, 60]))
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    def test_any_split_in_any_order_equals_joint(self, sizes: list[int], seed: int, dim: int) -> None:
        features, labels = samples(sum(sizes), dim, seed)
        joint, split = self.build(dim), self.build(dim)
        joint.calibrate(features)
        split.calibrate(features)
        joint.learn(features, labels)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        for part in order.split(sizes):
            split.learn(features[part], labels[part])
        assert torch.equal(joint.classes, split.classes)
        assert torch.equal(joint.counts, split.counts)
        self.assert_equal(joint, split)

    @pytest.mark.parametrize(("n", "dim"), [(300, 20), (20, 60), (1, 5), (64, 64)])
    @pytest.mark.parametrize("gamma", [1e-2, 0.1, 100.0])
    def test_weights_are_the_ridge_solution(self, n: int, dim: int, gamma: float) -> None:
        features, labels = samples(n, dim, seed=n)
        head = self.build(dim, gamma)
        head.learn(features, labels)
        expected = ridge(self.rows(head, features), labels, gamma)
        np.testing.assert_allclose(head.weight.numpy(), expected, rtol=1e-7, atol=1e-9)

    def test_classes_may_come_late_and_come_back(self) -> None:
        features, _ = samples(60, 8, seed=0)
        head = self.build(8)
        head.learn(features[:20], torch.full((20,), 7))
        head.learn(features[20:40], torch.full((20,), 2))
        head.learn(features[40:], torch.full((20,), 7))
        assert head.classes.tolist() == [2, 7]
        assert head.counts.tolist() == [20, 40]
        assert head(features).shape == (60, 2)

    def test_an_empty_batch_changes_nothing(self) -> None:
        head = self.build(4)
        head.learn(*samples(10, 4, seed=0))
        before = state(head)
        head.learn(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
        assert same_state(before, state(head))

    def test_prediction_is_pure_and_inputs_stay_as_they_are(self) -> None:
        features, labels = samples(50, 6, seed=1)
        kept = features.clone(), labels.clone()
        head = self.build(6)
        head.learn(features, labels)
        before = state(head)
        first, second = head.predict(features), head.predict(features)
        assert torch.equal(first, second)
        assert same_state(before, state(head))
        assert torch.equal(features, kept[0])
        assert torch.equal(labels, kept[1])

    def test_prediction_before_learning_says_what_to_do(self) -> None:
        with pytest.raises(ValueError, match="call learn first"):
            self.build(3).predict(torch.zeros(1, 3))
        assert self.build(3)(torch.zeros(2, 3)).shape == (2, 0)

    @pytest.mark.parametrize(
        ("features", "labels", "told"),
        [
            (torch.full((2, 4), float("nan")), torch.tensor([0, 1]), "NaN"),
            (torch.full((2, 4), float("inf")), torch.tensor([0, 1]), "infinite"),
            (torch.zeros(2, 5), torch.tensor([0, 1]), r"\(n, 4\)"),
            (torch.zeros(4), torch.tensor([0]), r"\(n, 4\)"),
            (torch.zeros(2, 4, dtype=torch.int64), torch.tensor([0, 1]), "floating point"),
            (torch.zeros(2, 4), torch.tensor([0, -1]), "0 or more"),
            (torch.zeros(2, 4), torch.tensor([0.0, 1.0]), "integers"),
            (torch.zeros(2, 4), torch.tensor([True, False]), "integers"),
            (torch.zeros(2, 4), torch.tensor([0, 1], dtype=torch.uint16), "integers"),
            (torch.zeros(2, 4), torch.tensor([0, 1, 2]), r"\(2,\)"),
            (torch.zeros(2, 4), [0, 1], "torch.Tensor"),
            (np.zeros((2, 4)), torch.tensor([0, 1]), "torch.Tensor"),
        ],
    )
    def test_a_refused_call_leaves_the_state_as_it_was(self, features: Tensor, labels: Tensor, told: str) -> None:
        head = self.build(4)
        head.learn(*samples(10, 4, seed=0))
        before = state(head)
        with pytest.raises(ValueError, match=told):
            head.learn(features, labels)
        assert same_state(before, state(head))

    @pytest.mark.parametrize("gamma", [0.0, -1.0, float("nan"), float("inf"), "0.1", True])
    def test_gamma_must_be_positive(self, gamma: float) -> None:
        with pytest.raises(ValueError, match="gamma must be"):
            self.build(4, gamma)

    @pytest.mark.parametrize("dim", [0, -3, 2.5])
    def test_the_width_must_be_a_count(self, dim: int) -> None:
        with pytest.raises(ValueError, match="dim must be"):
            self.build(dim)

    def test_the_state_moves_into_another_head(self) -> None:
        head, other = self.build(6), self.build(6)
        features, labels = samples(40, 6, seed=2)
        head.learn(features, labels)
        other.learn(features[:3], torch.tensor([3, 3, 4]))
        _ = other.weight
        other.load_state_dict(head.state_dict())
        assert torch.equal(other.classes, head.classes)
        assert torch.equal(other.weight, head.weight)
        assert torch.equal(copy.deepcopy(head).weight, head.weight)
        assert torch.equal(pickle.loads(pickle.dumps(head)).weight, head.weight)

    def test_memory_does_not_grow_with_samples(self) -> None:
        head = self.build(8)
        features, labels = samples(30, 8, seed=3)
        sizes = []
        for _ in range(36):
            head.learn(features, labels)
            sizes.append(sum(tensor.nelement() for tensor in head.state_dict().values()))
        assert max(sizes[24:]) <= max(sizes[:12])

    @pytest.mark.parametrize(
        "make",
        [
            lambda n: torch.ones(n, 5),  # constant
            lambda n: torch.zeros(n, 5),  # nothing at all
            lambda n: torch.arange(1.0, n + 1)[:, None] * torch.ones(5),  # rank one
        ],
    )
    @pytest.mark.parametrize("labels", [1, 3])
    def test_degenerate_features_still_solve(self, make: Callable[[int], Tensor], labels: int) -> None:
        features = make(30).double()
        head = self.build(5)
        head.learn(features, torch.arange(30) % labels)
        expected = ridge(self.rows(head, features), torch.arange(30) % labels, 0.1)
        np.testing.assert_allclose(head.weight.numpy(), expected, rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
    def test_labels_of_any_integer_type_are_the_same_labels(self, dtype: torch.dtype) -> None:
        features, labels = samples(30, 5, seed=4, labels=(3, 0, 100))
        one, other = self.build(5), self.build(5)
        one.learn(features, labels)
        other.learn(features, labels.to(dtype))
        assert one.classes.dtype == other.classes.dtype == torch.int64
        assert same_state(state(one), state(other))

    def test_what_was_handed_out_does_not_change_with_later_learning(self) -> None:
        features, labels = samples(40, 5, seed=6)
        head = self.build(5)
        head.learn(features, labels)
        handed = head.weight, head.classes, head.counts
        kept = [tensor.clone() for tensor in handed]
        head.learn(features, labels)
        assert all(torch.equal(one, other) for one, other in zip(handed, kept, strict=True))

    def test_gradients_and_inference_mode_leave_no_trace(self) -> None:
        features, labels = samples(40, 5, seed=7)
        plain, mixed = self.build(5), self.build(5)
        plain.learn(features[:20], labels[:20])
        plain.learn(features[20:], labels[20:])
        with torch.inference_mode():
            mixed.learn(features[:20], labels[:20])
        mixed.learn(features[20:].requires_grad_(), labels[20:])
        assert not any(tensor.requires_grad for tensor in mixed.state_dict(keep_vars=True).values())
        assert torch.equal(copy.deepcopy(mixed).weight, plain.weight)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_features_are_learned_as_the_values_they_hold(self, dtype: torch.dtype) -> None:
        features, labels = samples(40, 5, seed=8)
        features = (features * 1e-6).to(dtype)
        one, other = self.build(5, 1e-9), self.build(5, 1e-9)
        one.learn(features, labels)
        other.learn(features.float(), labels)
        assert same_state(state(one), state(other))

    @pytest.mark.parametrize(
        "features", [torch.zeros(2, 5), torch.full((2, 4), float("nan")), torch.zeros(2, 4, dtype=torch.int64)]
    )
    def test_prediction_refuses_what_learning_refuses(self, features: Tensor) -> None:
        head = self.build(4)
        head.learn(*samples(10, 4, seed=0))
        with pytest.raises(ValueError, match="features"):
            head.predict(features)

    def test_a_fresh_head_has_learned_nothing(self) -> None:
        head = self.build(4)
        features, labels = samples(20, 4, seed=5)
        head.learn(features, labels)
        fresh = head.fresh()
        assert not len(fresh.classes)
        fresh.learn(features, labels)
        self.assert_equal(fresh, head)


class TestExactHead(AnalyticHeadContract):
    def build(self, dim: int, gamma: float = 0.1) -> ExactHead:
        return ExactHead(dim, gamma)

    def rows(self, head: AnalyticHead, features: Tensor) -> Tensor:
        assert isinstance(head, ExactHead)
        return head.quantizer(features).double() * head.quantizer.scale

    def assert_equal(self, one: AnalyticHead, other: AnalyticHead) -> None:
        assert isinstance(one, ExactHead)
        assert isinstance(other, ExactHead)
        assert one.digest() == other.digest()
        assert torch.equal(one.weight, other.weight)

    def learned(self, features: Tensor, labels: Tensor, like: ExactHead | None = None) -> ExactHead:
        head = like.fresh() if like is not None else ExactHead(features.shape[1])
        head.learn(features, labels)
        return head

    @given(seed=st.integers(0, 99), share=st.floats(0, 1))
    @settings(max_examples=25, deadline=None)
    def test_forgetting_is_never_having_learned(self, seed: int, share: float) -> None:
        features, labels = samples(80, 12, seed)
        head = self.learned(features, labels)
        gone = torch.rand(80, generator=torch.Generator().manual_seed(seed)) < share
        head.forget(features[gone], labels[gone])
        assert head.digest() == self.learned(features[~gone], labels[~gone], like=head).digest()

    def test_a_forgotten_class_disappears(self) -> None:
        features, labels = samples(80, 12, seed=0)
        head = self.learned(features, labels)
        head.forget(features[labels == 5], labels[labels == 5])
        assert head.classes.tolist() == [0, 1, 2, 10**6]
        assert head(features).shape == (80, 4)

    def test_everything_can_be_forgotten(self) -> None:
        features, labels = samples(80, 12, seed=0)
        head = self.learned(features, labels)
        head.forget(features, labels)
        assert head.digest() == ExactHead(12).digest()
        assert head(features).shape == (80, 0)

    def test_forgetting_restores_the_counts_of_clipped_values_too(self) -> None:
        features, labels = samples(80, 12, seed=0)
        head = self.learned(features[:40], labels[:40])
        before = state(head)
        head.learn(1e3 * features[40:], labels[40:])
        assert head.quantizer.clipped_share > 0.1
        head.forget(1e3 * features[40:], labels[40:])
        assert same_state(before, state(head))

    def test_nothing_can_be_forgotten_before_something_was_learned(self) -> None:
        head = ExactHead(4)
        with pytest.raises(NotLearnedError, match="nothing was learned"):
            head.forget(*samples(3, 4, seed=0))
        head.forget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
        assert head.digest() == ExactHead(4).digest()

    def test_other_samples_with_the_same_sums_are_told_from_the_learned_ones(self) -> None:
        head = self.learned(torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([0, 0]))
        before = head.digest()
        with pytest.raises(NotLearnedError, match="impossible moments"):
            head.forget(torch.eye(2), torch.tensor([0, 0]))
        assert head.digest() == before

    def test_more_than_was_learned_cannot_be_forgotten(self) -> None:
        features, labels = samples(40, 6, seed=0, labels=(0, 1))
        head = self.learned(features, labels)
        before = head.digest()
        one = labels == 1
        for rows, targets in [
            (torch.cat([features[one], features[one][:1]]), torch.ones(int(one.sum()) + 1, dtype=torch.int64)),
            (features[:1], torch.tensor([9])),
            (features[one].flip(1) + 1, labels[one]),
            (torch.zeros_like(features[one]), labels[one]),
        ]:
            with pytest.raises(NotLearnedError):
                head.forget(rows, targets)
            assert head.digest() == before

    @given(order=st.permutations(range(4)), seed=st.integers(0, 20))
    @settings(max_examples=15, deadline=None)
    def test_merging_in_any_order_equals_joint(self, order: list[int], seed: int) -> None:
        features, labels = samples(80, 10, seed)
        joint = self.learned(features, labels)
        parts = [
            self.learned(features[labels % 4 == k], labels[labels % 4 == k], like=joint) if k < 3 else joint.fresh()
            for k in range(4)
        ]
        merged = joint.fresh()
        for index in order:
            merged.merge(parts[index])
        assert merged.digest() == joint.digest()

    def test_merging_commutes_and_associates(self) -> None:
        features, labels = samples(90, 10, seed=1)
        joint = self.learned(features, labels)
        a, b, c = (self.learned(features[k::3], labels[k::3], like=joint) for k in range(3))
        left, right, kept = copy.deepcopy(a), copy.deepcopy(c), state(b)
        left.merge(b)  # (a + b) + c
        left.merge(c)
        inner = copy.deepcopy(b)
        inner.merge(a)
        right.merge(inner)  # c + (b + a)
        assert same_state(state(left), state(right))
        assert same_state(state(left), state(joint))
        assert same_state(state(b), kept)

    def test_casting_a_head_keeps_its_scale(self) -> None:
        features, labels = samples(40, 6, seed=0)
        head = self.learned(features * 1e-7, labels)
        twin = copy.deepcopy(head).half().float()
        head.learn(features * 1e-7, labels)
        twin.learn(features * 1e-7, labels)
        assert twin.digest() == head.digest()
        assert torch.equal(twin.weight, head.weight)

    def test_another_gamma_is_solved_for(self) -> None:
        features, labels = samples(40, 6, seed=0)
        head = self.learned(features, labels)
        first = head.weight
        head.gamma = 10.0
        assert not torch.equal(head.weight, first)
        np.testing.assert_allclose(head.weight.numpy(), ridge(self.rows(head, features), labels, 10.0), rtol=1e-7)

    def test_features_too_large_to_square_are_refused(self) -> None:
        head = ExactHead(4)
        with pytest.raises(ValueError, match="scale them down"):
            head.learn(torch.full((2, 4), 1e200, dtype=torch.float64), torch.tensor([0, 1]))
        assert same_state(state(head), state(ExactHead(4)))

    def test_heads_of_other_scales_do_not_merge(self) -> None:
        one, other = (self.learned(*samples(20, 5, seed)) for seed in (0, 1))
        before = one.digest()
        with pytest.raises(ValueError, match="equal scale, bits and gamma"):
            one.merge(other)
        with pytest.raises(ValueError, match="ExactHead"):
            one.merge(RecursiveHead(5))  # type: ignore[arg-type]
        assert one.digest() == before

    def test_it_solves_once_after_a_change_and_not_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        solves = []
        solve = exact_module.solve_ridge
        monkeypatch.setattr(exact_module, "solve_ridge", lambda *a: solves.append(1) or solve(*a))
        features, labels = samples(30, 6, seed=0)
        head = ExactHead(6)
        for row in range(30):
            head.learn(features[row : row + 1], labels[row : row + 1])
        assert not solves
        head(features), head.predict(features), head.weight
        assert len(solves) == 1
        head.forget(features[:1], labels[:1])
        head(features), head(features)
        assert len(solves) == 2

    def test_too_small_a_gamma_is_refused_with_one_that_works(self) -> None:
        features = torch.ones(1000, 50, dtype=torch.float64) * 1e6
        head = ExactHead(50, gamma=1e-6)
        head.learn(features, torch.arange(1000) % 2)
        with pytest.raises(SingularMomentsError, match="use a gamma of") as caught:
            _ = head.weight
        advised = float(str(caught.value).split("use a gamma of ")[1].split()[0])
        better = ExactHead(50, gamma=advised)
        better.learn(features, torch.arange(1000) % 2)
        assert torch.isfinite(better.weight).all()

    def test_learning_equals_learning_the_same_in_float32(self) -> None:
        features, labels = samples(50, 8, seed=0)
        head = self.learned(features.float(), labels)
        assert head(features.float()).dtype == torch.float32
        assert head(features).dtype == torch.float64


class TestRecursiveHead(AnalyticHeadContract):
    def build(self, dim: int, gamma: float = 0.1) -> RecursiveHead:
        return RecursiveHead(dim, gamma)

    def rows(self, head: AnalyticHead, features: Tensor) -> Tensor:
        return features

    def assert_equal(self, one: AnalyticHead, other: AnalyticHead) -> None:
        torch.testing.assert_close(one.weight, other.weight, rtol=1e-8, atol=1e-8 * float(other.weight.abs().max()))

    @pytest.mark.parametrize("gamma", [1e-6, 1e-2, 10.0])
    def test_ten_thousand_single_samples_keep_the_inverse_sound(self, gamma: float) -> None:
        features, labels = samples(10_000, 16, seed=0)
        head = RecursiveHead(16, gamma)
        for row in range(10_000):
            head.learn(features[row : row + 1], labels[row : row + 1])
        gram = features.t() @ features + gamma * torch.eye(16, dtype=torch.float64)
        torch.testing.assert_close(head.inverse @ gram, torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-6)
        torch.testing.assert_close(head.inverse, head.inverse.t(), rtol=1e-12, atol=0)
        assert (torch.linalg.eigvalsh(head.inverse) > 0).all()
        np.testing.assert_allclose(head.weight.numpy(), ridge(features, labels, gamma), rtol=1e-6, atol=1e-8)

    def test_weights_are_ready_after_every_batch(self) -> None:
        features, labels = samples(60, 7, seed=0)
        head = RecursiveHead(7)
        for stop in range(1, 61):
            head.learn(features[stop - 1 : stop], labels[stop - 1 : stop])
            expected = ridge(features[:stop], labels[:stop], 0.1)
            np.testing.assert_allclose(head.weight.numpy(), expected, rtol=1e-6, atol=1e-9)

    def test_a_batch_larger_than_one_system_is_split(self, monkeypatch: pytest.MonkeyPatch) -> None:
        features, labels = samples(50, 7, seed=0)
        whole = RecursiveHead(7)
        whole.learn(features, labels)
        monkeypatch.setattr("acil.head.recursive.MAX_ROWS", 8)
        split = RecursiveHead(7)
        split.learn(features, labels)
        self.assert_equal(split, whole)

    def test_a_head_cast_to_float32_refuses_to_learn(self) -> None:
        head = RecursiveHead(4).float()
        with pytest.raises(ValueError, match="needs float64"):
            head.learn(*samples(3, 4, seed=0))

    @pytest.mark.parametrize("dim", [3, 65, 300])
    @pytest.mark.parametrize("rows", [1, 2, 7, 64])
    def test_the_inverse_stays_symmetric_to_the_bit(self, dim: int, rows: int) -> None:
        features, labels = samples(10 * rows, dim, seed=0)
        head = RecursiveHead(dim, gamma=1e-6)
        for part in torch.arange(len(labels)).split(rows):
            head.learn(features[part], labels[part])
        assert torch.equal(head.inverse, head.inverse.t())
        assert (torch.linalg.eigvalsh(head.inverse) > 0).all()

    @pytest.mark.parametrize("size", [1, 13, 400])
    @pytest.mark.parametrize(
        "features",
        [
            torch.ones(400, 6),
            torch.zeros(400, 6),
            samples(400, 1, seed=0)[0].repeat(1, 6),
            samples(400, 6, seed=0)[0] * torch.logspace(0, -6, 6),
            samples(4, 6, seed=0)[0].repeat(100, 1),
        ],
        ids=["constant", "zero", "rank-one", "decaying", "four-samples-again-and-again"],
    )
    def test_the_inverse_is_that_of_the_joint_moments_for_a_tiny_gamma(self, features: Tensor, size: int) -> None:
        features = features.double()
        head = RecursiveHead(6, gamma=1e-6)
        for rows, targets in zip(features.split(size), (torch.arange(400) % 3).split(size), strict=True):
            head.learn(rows, targets)
        joint = torch.linalg.inv(features.t() @ features + 1e-6 * torch.eye(6, dtype=torch.float64))
        assert float((head.inverse - joint).abs().max() / joint.abs().max()) < 1e-6
        assert (torch.linalg.eigvalsh(head.inverse) > 0).all()
        assert torch.isfinite(head.weight).all()

    @pytest.mark.parametrize("size", [1, 1_000])
    def test_nearly_equal_large_rows_do_not_break_the_recursion(self, size: int) -> None:
        features = 1e5 * torch.ones(1_000, 8, dtype=torch.float64) + samples(1_000, 8, seed=0)[0]
        head = RecursiveHead(8, gamma=0.1)
        for rows, targets in zip(features.split(size), (torch.arange(1_000) % 2).split(size), strict=True):
            head.learn(rows, targets)
        assert head.counts.tolist() == [500, 500]
        assert (torch.linalg.eigvalsh(head.inverse) > 0).all()
        assert torch.isfinite(head.weight).all()

    @pytest.mark.parametrize("value", [1e6, 1e160, 1e300])
    def test_too_small_a_gamma_is_refused(self, value: float) -> None:
        features, labels = samples(20, 4, seed=0)
        head = RecursiveHead(4, gamma=1e-6)
        head.learn(features, labels)
        before = state(head)
        with pytest.raises(SingularMomentsError, match="scale them down"):
            head.learn(torch.cat([features, torch.full((1, 4), value, dtype=torch.float64)]), torch.arange(21))
        assert same_state(before, state(head))

    def test_the_advised_gamma_works(self) -> None:
        features = torch.full((5, 4), 1e6)
        with pytest.raises(SingularMomentsError, match="use a gamma of") as caught:
            RecursiveHead(4, gamma=1e-6).learn(features, torch.arange(5))
        advised = float(str(caught.value).split("use a gamma of ")[1].split()[0])
        RecursiveHead(4, gamma=advised).learn(features, torch.arange(5))
