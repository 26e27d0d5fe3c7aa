import itertools
import math

import pytest
import torch

from experiments.craig import craig
from lib.scores import definitions


def draw(n, k=3, runs=1, seed=0):
    return torch.randn(runs, n, k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("epsilon", [0, 0.1])
def test_the_gradient_of_the_subset_stands_for_the_whole_within_the_bound(epsilon):
    errors, y = draw(120, runs=3), torch.arange(120) % 4
    kept, weights = craig(errors, 0.2, y=y, epsilon=epsilon)
    assert (kept.sum(1) == 24).all() and (weights.sum(1) == 120).all() and (weights[~kept] == 0).all()
    for e in range(3):
        for c in range(4):
            inside = y == c
            assert kept[e, inside].sum() == 6 and weights[e, inside].sum() == 30
            rows = torch.nonzero(kept[e] & inside).flatten().tolist()
            bound = sum(
                min(math.dist(errors[e, i], errors[e, j]) for j in rows) for i in torch.nonzero(inside).flatten()
            )
            gap = errors[e, inside].sum(0) - (weights[e, inside, None] * errors[e, inside]).sum(0)
            assert gap.norm() <= bound + 1e-9


@pytest.mark.parametrize("epsilon", [0, 0.1])
def test_as_good_as_the_theory_says(epsilon):
    """Facility location within 1 − 1/e (− ε on average) of the best of all subsets."""
    values = []
    for seed in range(12):
        g = draw(11, k=2, seed=seed)
        distance = torch.cdist(g[0], g[0])
        gain = lambda chosen: float(11 * distance.max() - distance[:, chosen].amin(1).sum())  # noqa: B023
        best = max(gain(list(chosen)) for chosen in itertools.combinations(range(11), 3))
        values.append(gain(craig(g, 3 / 11, epsilon=epsilon, seed=seed).kept[0]) / best)
    if epsilon == 0:
        assert min(values) >= 1 - 1 / math.e
    assert sum(values) / len(values) >= 1 - 1 / math.e - 0.1


def test_stochastic_is_near_greedy_and_better_than_chance():
    g = draw(300, seed=5)
    cost = lambda kept: torch.cdist(g[0], g[0][kept]).amin(1).sum()
    greedy, some = cost(craig(g, 0.1, epsilon=0).kept[0]), cost(craig(g, 0.1).kept[0])
    chance = cost(torch.randperm(300, generator=torch.Generator().manual_seed(0)) < 30)
    assert greedy <= some < 1.1 * greedy < chance
    a, b = (craig(g, 0.1, seed=s).kept for s in (0, 1))
    assert not torch.equal(a, b) and torch.equal(a, craig(g, 0.1, seed=0).kept)


@pytest.mark.parametrize("epsilon", [0, 1e-9])
def test_an_example_between_two_goes_to_the_one_that_was_chosen_first(epsilon):
    """A centre with its ring, three further out, and one as far from the centre as from the middle of the three."""
    ring = torch.tensor([[math.cos(a), math.sin(a)] for a in torch.arange(12) * math.tau / 12]) / 8
    g = torch.cat([ring, torch.tensor([[0.0, 0], [2, 0], [2, 0.5], [2, -0.5], [1, 0]])])[None]
    some = [craig(g, 2 / 17, epsilon=epsilon, seed=seed) for seed in range(10)]
    both = [found.weights[0, 12:14].tolist() for found in some if found.kept[0, 12:14].all()]
    assert both and both == [[14, 3]] * len(both) and definitions.craig(g, 2 / 17)[0, 12:14].tolist() == [14, 3]


@pytest.mark.parametrize("epsilon", [0, 0.1])
def test_ends(epsilon):
    g = draw(20)
    everything = craig(g, 1.0, epsilon=epsilon)
    assert everything.kept.all() and (everything.weights == 1).all()
    one = craig(g, 0.01, epsilon=0)
    medoid = torch.cdist(g[0], g[0]).sum(1).argmin()
    assert one.weights[0, medoid] == 20
    same = craig(torch.ones(1, 6, 2), 0.5, epsilon=epsilon)
    assert same.kept.sum() == 3 and same.weights.sum() == 6 and same.weights.max() == 6


def test_choice_follows_the_rows_and_the_classes():
    errors, order = draw(40, seed=3), torch.randperm(40, generator=torch.Generator().manual_seed(1))
    whole, moved = craig(errors, 0.3, epsilon=0), craig(errors[:, order], 0.3, epsilon=0)
    cost = lambda g, kept: torch.cdist(g[0], g[0][kept[0]]).amin(1).sum()
    torch.testing.assert_close(cost(errors, whole.kept), cost(errors[:, order], moved.kept))
    y = torch.arange(40) % 2
    halves = craig(errors, 0.3, epsilon=0, y=y)
    torch.testing.assert_close(halves.weights[:, ::2], craig(errors[:, ::2], 0.3, epsilon=0).weights)
    by_run = craig(errors.expand(2, 40, 3), 0.3, epsilon=0, y=torch.stack([y, y * 0]))
    assert torch.equal(by_run.weights, torch.cat([halves.weights, whole.weights]))


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"finite \(runs, examples, classes\), got \(4, 3\)"):
        craig(torch.zeros(4, 3), 0.5)
    with pytest.raises(ValueError, match="finite"):
        craig(torch.full((1, 4, 3), torch.nan), 0.5)
    with pytest.raises(ValueError, match="0 < keep ≤ 1 .* got keep 0"):
        craig(draw(4), 0)
    with pytest.raises(ValueError, match="0 ≤ epsilon < 1, got keep 0.5, epsilon 1"):
        craig(draw(4), 0.5, epsilon=1)
    with pytest.raises(ValueError, match=r"integer labels \(4,\)"):
        craig(draw(4), 0.5, y=torch.zeros(3, dtype=torch.int64))
