import math

import numpy as np
import pytest
import torch

from experiments.long_tail import pair_counts, permuted_pair_counts
from experiments.pairs import high_influence_pairs, squared_error_bound
from lib.scores import definitions
from lib.scores.memorization import (
    BLOCK,
    datamodel,
    held_out_accuracy,
    influence_of_seeing,
    memorization,
    subsets,
)


def bits(*shape, seed=0, p=0.5):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < p


def simulated(t=400, n=30, k=50, seed=0):
    """Networks whose answers we decide: P(right about j) = base_j + the truth[i, j] of each i seen; one i a j."""
    g = torch.Generator().manual_seed(seed)
    truth = torch.zeros(n, k, dtype=torch.float64)
    truth[torch.randint(n, (k,), generator=g), torch.arange(k)] = 0.6 * torch.rand(k, generator=g, dtype=torch.float64)
    base = 0.4 * torch.rand(k, generator=g, dtype=torch.float64)
    sees = subsets(n, round(0.7 * n), t, seed)
    right = torch.rand(t, k, generator=g, dtype=torch.float64) < base + sees.double() @ truth
    return sees, right, truth


class TestSubsets:
    def test_every_row_has_m(self):
        assert (subsets(50, 35, trials=20, seed=3).sum(1) == 35).all()

    def test_more_trials_extend_the_first(self):
        for few in (1, 10):
            assert torch.equal(subsets(50, 35, trials=30, seed=3)[:few], subsets(50, 35, trials=few, seed=3))

    def test_seeds_differ(self):
        assert not torch.equal(subsets(50, 35, trials=10, seed=3), subsets(50, 35, trials=10, seed=4))

    def test_every_example_is_as_likely(self):
        """Counts are binomial(2000, .7): none may lie beyond 5 standard deviations."""
        seen = subsets(100, 70, trials=2000, seed=0).sum(0).double()
        assert ((seen - 1400).abs() < 5 * math.sqrt(2000 * 0.7 * 0.3)).all()

    @pytest.mark.parametrize(("n", "m", "trials"), [(10, 0, 1), (10, 10, 1), (10, 5, 0)])
    def test_sizes_are_checked(self, n, m, trials):
        with pytest.raises(ValueError, match=rf"got m = {m}, n = {n}, trials = {trials}"):
            subsets(n, m, trials, seed=0)


class TestDefinition:
    @pytest.mark.parametrize("n", [7, BLOCK + 3])
    def test_influence_is_algorithm_1(self, n):
        sees, correct = bits(12, n, seed=1), bits(12, 5, seed=2)
        wanted = definitions.influence_of_seeing(sees, correct)
        torch.testing.assert_close(influence_of_seeing(sees, correct).value, wanted, equal_nan=True)

    def test_memorization_is_influence_on_oneself(self):
        sees, correct = bits(40, 9, seed=1), bits(40, 9, seed=2)
        full, own = influence_of_seeing(sees, correct), memorization(sees, correct)
        torch.testing.assert_close(own.value, full.value.diagonal())
        torch.testing.assert_close(own.error, full.error.diagonal())

    def test_counts_are_the_columns(self):
        sees = bits(40, 9, seed=1)
        estimate = memorization(sees, sees)
        assert torch.equal(estimate.seen, sees.sum(0)) and torch.equal(estimate.held_out, (~sees).sum(0))

    def test_error_is_that_of_two_shares(self):
        sees = torch.tensor([1, 1, 1, 1, 0, 0, 0], dtype=torch.bool)[:, None]
        correct = torch.tensor([1, 1, 1, 0, 1, 0, 0], dtype=torch.bool)[:, None]
        expected = math.sqrt(0.75 * 0.25 / 3 + (1 / 3) * (2 / 3) / 2)
        assert memorization(sees, correct).error.item() == pytest.approx(expected, rel=1e-14)

    def test_memorization_is_one_minus_the_c_score_where_all_that_is_seen_is_fitted(self):
        sees = bits(30, 20, seed=1)
        correct = sees | bits(30, 20, seed=2)
        expected = 1 - held_out_accuracy(sees, correct)
        torch.testing.assert_close(memorization(sees, correct).value, expected, rtol=0, atol=1e-15)


class TestMarginsAndLosses:
    @pytest.mark.parametrize("n", [7, BLOCK + 3])
    def test_influence_is_the_difference_of_means(self, n):
        sees, margins = (
            bits(12, n, seed=1),
            1e6 + torch.randn(12, 5, generator=torch.Generator().manual_seed(2)).double(),
        )
        sees[:, 3] = True
        found = influence_of_seeing(sees, margins)
        torch.testing.assert_close(found.value, definitions.influence_of_seeing(sees, margins), equal_nan=True)
        saw, others = margins[sees[:, 0]], margins[~sees[:, 0]]
        torch.testing.assert_close(found.error[0], (saw.var(0) / len(saw) + others.var(0) / len(others)).sqrt())
        assert found.value[3].isnan().all()

    def test_bits_as_floats_give_what_bits_give(self):
        sees, correct = bits(40, 9, seed=1), bits(40, 5, seed=2)
        for one, other in zip(
            influence_of_seeing(sees, correct), influence_of_seeing(sees, correct.float()), strict=True
        ):
            torch.testing.assert_close(one, other)

    @pytest.mark.parametrize(("t", "n"), [(40, 7), (12, 30)])
    @pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
    def test_a_datamodel_is_ridge_regression(self, t, n, ridge):
        """By normal equations in numpy with an intercept that is not shrunk."""
        sees, losses = bits(t, n, seed=1), 5 + torch.randn(t, 3, generator=torch.Generator().manual_seed(2)).double()
        design = np.column_stack([sees.numpy().astype(float), np.ones(t)])
        penalty = ridge * np.diag([1.0] * n + [0.0])
        wanted = np.linalg.solve(design.T @ design + penalty, design.T @ losses.numpy())[:-1]
        np.testing.assert_allclose(datamodel(sees, losses, ridge=ridge), wanted, rtol=1e-6, atol=1e-9)

    def test_a_datamodel_of_one_example_is_the_difference_of_means(self):
        sees, correct = bits(20, 1, seed=1), bits(20, 4, seed=2)
        one = datamodel(sees, correct, ridge=1e-10)
        torch.testing.assert_close(one, influence_of_seeing(sees, correct).value)

    def test_a_datamodel_takes_account_of_who_else_was_seen(self):
        """Two examples that go together: the first alone does something, the difference of means credits both."""
        first = torch.arange(200) % 2 == 0
        second = first ^ (torch.arange(200) % 20 < 2)
        sees = torch.stack([first, second], 1)
        margins = 3.0 * first[:, None].double()
        assert influence_of_seeing(sees, margins).value[1] > 2
        torch.testing.assert_close(datamodel(sees, margins, ridge=1e-9)[:, 0], torch.tensor([3.0, 0.0]).double())

    def test_what_cannot_be_an_outcome(self):
        sees = bits(12, 3, seed=1)
        for outcome in (torch.full((12, 2), math.inf), torch.zeros(12, 2, dtype=torch.int64), torch.zeros(12)):
            with pytest.raises(ValueError, match="correct must be booleans or finite floats"):
                influence_of_seeing(sees, outcome)
        with pytest.raises(ValueError, match="correct must be booleans "):
            memorization(sees, sees.float())
        with pytest.raises(ValueError, match="ridge: expected a finite number above 0, got 0"):
            datamodel(sees, sees, ridge=0)


class TestTruth:
    def test_mean_squared_error_keeps_lemma_2_1(self):
        """Known truth: the mean squared error is below the bound, and not by so much that the bound is idle."""
        bound = squared_error_bound(400, 30, 21)
        errors = [
            (influence_of_seeing(sees, right).value - truth).square().mean()
            for sees, right, truth in (simulated(seed=seed) for seed in range(5))
        ]
        assert 0.02 * bound < np.mean(errors) < bound

    def test_standard_errors_are_the_spread(self):
        """(estimate − truth)/error has mean 0 and variance 1, each within 5 of its own standard errors."""
        z = []
        for seed in range(40):
            sees, right, truth = simulated(t=600, seed=seed)
            i, j = truth.nonzero(as_tuple=True)
            estimate = influence_of_seeing(sees, right)
            keep = (truth[i, j] > 0.1) & (truth[i, j] < 0.5)
            z.append(((estimate.value - truth) / estimate.error)[i[keep], j[keep]])
        z = torch.cat(z)
        assert abs(z.mean()) < 5 / math.sqrt(len(z))
        assert abs(z.var() - 1) < 5 * math.sqrt(2 / len(z))

    def test_bound_at_the_papers_size(self):
        """p = .3, t = 4,000: 1/1200 + 1/2800 and a vanishing tail."""
        assert squared_error_bound(4000, 50_000, 35_000) == pytest.approx(1 / 1200 + 1 / 2800, rel=1e-12)
        assert squared_error_bound(4000, 10, 3) == pytest.approx(squared_error_bound(4000, 10, 7))
        assert squared_error_bound(0 + 1, 10, 7) > 1


class TestInvariances:
    def test_order_of_the_networks_does_not_matter(self):
        sees, right, _ = simulated()
        order = torch.randperm(len(sees), generator=torch.Generator().manual_seed(1))
        assert torch.equal(influence_of_seeing(sees, right).value, influence_of_seeing(sees[order], right[order]).value)

    def test_examples_keep_their_values_in_any_order_and_company(self):
        sees, right, _ = simulated()
        rows, columns = torch.tensor([11, 2, 29]), torch.tensor([40, 0])
        full, part = influence_of_seeing(sees, right), influence_of_seeing(sees[:, rows], right[:, columns])
        assert torch.equal(part.value, full.value[rows][:, columns])
        assert torch.equal(part.error, full.error[rows][:, columns])

    def test_swapping_seen_and_held_out_turns_the_sign(self):
        sees, right, _ = simulated()
        torch.testing.assert_close(influence_of_seeing(~sees, right).value, -influence_of_seeing(sees, right).value)

    def test_an_answer_that_never_changes_has_no_influence(self):
        sees = bits(30, 5)
        assert (influence_of_seeing(sees, torch.ones(30, 2, dtype=torch.bool)).value == 0).all()

    def test_full_memorization_is_one(self):
        sees = bits(30, 5)
        estimate = memorization(sees, sees)
        assert (estimate.value == 1).all() and (estimate.error == 0).all()


class TestNeverHeldOut:
    def test_they_are_nan_with_their_counts(self):
        sees = bits(20, 4, seed=5)
        sees[:, 1], sees[:, 2] = True, False
        correct = bits(20, 4, seed=6)
        for estimate in (memorization(sees, correct), influence_of_seeing(sees, correct)):
            bad = estimate.value.isnan().reshape(4, -1)
            assert bad[1:3].all() and not bad[[0, 3]].any()
            assert estimate.held_out[1] == 0 and estimate.seen[1] == 20
            assert estimate.seen[2] == 0 and estimate.held_out[2] == 20
        assert held_out_accuracy(sees, correct).isnan().tolist() == [False, True, False, False]

    def test_one_network_has_a_value_but_no_error(self):
        sees = torch.tensor([[True], [True], [True], [False]])
        estimate = memorization(sees, sees)
        assert estimate.value.item() == 1 and estimate.error.isnan().item()

    def test_they_are_in_no_pair(self):
        sees, right, _ = simulated()
        sees[:, 3] = True
        y, y_test = torch.zeros(30, dtype=torch.int64), torch.zeros(50, dtype=torch.int64)
        pairs = high_influence_pairs(sees, sees, right, y, y_test, min_memorization=-math.inf, min_influence=-1)
        assert 3 not in set(pairs.train) and len(pairs) == 29 * 50


class TestPairs:
    @pytest.fixture
    def world(self):
        sees, right, _ = simulated(t=3000)
        g = torch.Generator().manual_seed(9)
        y_train, y_test = torch.randint(3, (30,), generator=g), torch.randint(3, (50,), generator=g)
        correct_train = sees | bits(3000, 30, seed=4, p=0.7)  # memorization about .3: some above .25, some below
        return sees, correct_train, right, y_train, y_test

    def test_are_those_that_pass_both_thresholds(self, world):
        sees, correct_train, right, y_train, y_test = world
        pairs = high_influence_pairs(*world, min_memorization=0.3)
        mem, infl = memorization(sees, correct_train).value, influence_of_seeing(sees, right).value
        expected = {
            (i, j)
            for i in range(30)
            for j in range(50)
            if mem[i] >= 0.3 and infl[i, j] >= 0.15 and y_train[i] == y_test[j]
        }
        assert 0 < len(expected) < int(((infl >= 0.15) & (y_train[:, None] == y_test)).sum())
        assert set(zip(pairs.train, pairs.test, strict=True)) == expected and len(pairs) == len(expected)
        assert pairs.same_label.all() and pairs.influence.is_monotonic_decreasing
        i, j = torch.tensor(pairs.train.tolist()), torch.tensor(pairs.test.tolist())
        assert pairs.influence.tolist() == infl[i, j].tolist() and pairs.memorization.tolist() == mem[i].tolist()
        assert pairs.error.tolist() == influence_of_seeing(sees, right).error[i, j].tolist()
        edges = {"min_memorization": float(pairs.memorization.min()), "min_influence": float(pairs.influence.min())}
        assert high_influence_pairs(*world, **edges).equals(pairs)

    def test_other_labels_are_flagged_when_asked_for(self, world):
        pairs = high_influence_pairs(*world, same_label=False)
        y_train, y_test = world[3:]
        same = y_train[pairs.train.tolist()] == y_test[pairs.test.tolist()]
        assert pairs.same_label.tolist() == same.tolist() and not same.all()
        assert len(high_influence_pairs(*world)) == int(same.sum())

    def test_rows_are_the_original_ones(self, world):
        rows_train, rows_test = torch.arange(30) * 10 + 7, torch.arange(50) * 3 + 1
        pairs = high_influence_pairs(*world, rows_train=rows_train, rows_test=rows_test)
        assert (pairs.train_row == pairs.train * 10 + 7).all() and (pairs.test_row == pairs.test * 3 + 1).all()

    def test_none_is_an_empty_table(self, world):
        pairs = high_influence_pairs(*world, min_influence=1.5)
        assert len(pairs) == 0 and "memorization" in pairs and pair_counts(pairs.test) == (0, 0, 0)

    def test_counts(self):
        assert pair_counts(np.array([3, 8, 3, 1, 3])) == (5, 3, 2)

    def test_labels_are_checked(self, world):
        with pytest.raises(ValueError, match=r"y_test must have one label an example, \(50,\), got \(49,\)"):
            high_influence_pairs(*world[:4], world[4][1:])


class TestNull:
    def test_without_influence_the_null_count_is_the_count(self):
        """No example matters: the observed count lies among the permuted ones."""
        sees = subsets(60, 42, trials=60, seed=0)
        right = bits(60, 80, seed=1)
        y_train, y_test = torch.arange(60) % 3, torch.arange(80) % 3
        candidates = torch.arange(60) < 40
        null = permuted_pair_counts(sees, right, y_train, y_test, candidates=candidates, permutations=200)
        allowed = candidates[:, None] & (y_train[:, None] == y_test)
        count = int(((influence_of_seeing(sees, right).value >= 0.15) & allowed).sum())
        assert null.pairs.quantile(0.005) <= count <= null.pairs.quantile(0.995)
        assert null.pairs.mean() == pytest.approx(count, rel=0.15)

    def test_mean_is_the_normal_tail(self):
        """Fair coins: estimates spread by √(¼/42 + ¼/18) at t = 60, so P(≥ .15) is a normal tail (within a tenth)."""
        sees = subsets(60, 42, trials=600, seed=0)
        right = bits(600, 80, seed=1)
        y = torch.zeros(60, dtype=torch.int64), torch.zeros(80, dtype=torch.int64)
        null = permuted_pair_counts(
            sees, right, *y, candidates=torch.ones(60, dtype=torch.bool), permutations=50, min_influence=0.1
        )
        tail = 0.5 * math.erfc(0.1 / math.sqrt(0.25 / 420 + 0.25 / 180) / math.sqrt(2))
        assert null.pairs.mean() == pytest.approx(60 * 80 * tail, rel=0.1)

    def test_true_pairs_are_far_above_it(self):
        sees, right, truth = simulated(t=2000)
        y = torch.zeros(30, dtype=torch.int64), torch.zeros(50, dtype=torch.int64)
        everyone = torch.ones(30, dtype=torch.bool)
        null = permuted_pair_counts(sees, right, *y, candidates=everyone, permutations=20)
        assert null.pairs.max() < 0.1 * (truth >= 0.15).sum()

    def test_one_deal_is_the_count_with_permuted_rows(self):
        """The three counts by the other route: permute the answers, list the pairs, count them."""
        sees, right, _ = simulated(t=60)
        y_train, y_test = torch.arange(30) % 3, torch.arange(50) % 3
        everyone = torch.ones(30, dtype=torch.bool)
        null = permuted_pair_counts(sees, right, y_train, y_test, candidates=everyone, permutations=2, seed=7)
        generator = torch.Generator().manual_seed(7)
        for row in null.itertuples(index=False):
            deal = torch.randperm(60, generator=generator)
            pairs = high_influence_pairs(sees, sees, right[deal], y_train, y_test, min_memorization=-math.inf)
            assert tuple(row) == pair_counts(pairs.test)

    def test_follows_the_seed(self):
        sees, right, _ = simulated(t=60)
        y = torch.zeros(30, dtype=torch.int64), torch.zeros(50, dtype=torch.int64)
        draw = lambda seed: permuted_pair_counts(
            sees, right, *y, candidates=torch.ones(30, dtype=torch.bool), permutations=5, seed=seed
        )
        assert draw(1).equals(draw(1)) and not draw(1).equals(draw(2))

    def test_candidates_are_checked(self):
        sees, right, _ = simulated(t=60)
        y = torch.zeros(30, dtype=torch.int64), torch.zeros(50, dtype=torch.int64)
        with pytest.raises(ValueError, match=r"candidates must be booleans \(30,\), got torch.int64"):
            permuted_pair_counts(sees, right, *y, candidates=torch.arange(3))


class TestErrors:
    def test_numbers_are_no_bits(self):
        with pytest.raises(ValueError, match=r"member_sees must be booleans .* got torch.int64 \(3, 4\)"):
            memorization(torch.ones(3, 4, dtype=torch.int64), bits(3, 4))

    def test_epochs_must_be_chosen(self):
        with pytest.raises(ValueError, match=r"correct must be booleans .* \(3, 1, 4\)"):
            influence_of_seeing(bits(3, 4), bits(3, 1, 4))

    def test_networks_must_agree(self):
        with pytest.raises(ValueError, match="member_sees has 3, correct has 2"):
            influence_of_seeing(bits(3, 4), bits(2, 4))

    def test_examples_must_agree(self):
        with pytest.raises(ValueError, match=r"shape of member_sees, \(3, 4\), got \(3, 5\)"):
            memorization(bits(3, 4), bits(3, 5))
