import numpy as np
import pandas as pd
import pytest
import torch

from experiments.unique_information import (
    STRATEGIES,
    accuracies,
    fitted,
    gap,
    kept,
    part,
    points,
    redrawn_interval,
    removal_order,
)
from lib.networks import models
from lib.scores.unique_information import changes, f_si, tangent
from lib.statistics import t_interval
from lib.training.recipe import Recipe, Run

TRAIN = {"lr": 0.05, "steps": 200}


@pytest.fixture(scope="module")
def problem():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    y = (x[:, 0] + 0.5 * torch.randn(40, generator=generator, dtype=torch.float64) > 0).long()
    model = models.initialize(models.mlp(5, (16,), 1), 0).double()
    return tangent(model, x, torch.randn(30, 5, generator=generator, dtype=torch.float64)), y


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_order_is_a_permutation_and_comes_again(problem, strategy):
    net, y = problem
    order = removal_order(net, y, strategy, **TRAIN, seed=1)
    assert torch.equal(order.sort()[0], torch.arange(40))
    assert torch.equal(order, removal_order(net, y, strategy, **TRAIN, seed=1))


def test_top_is_bottom_backwards_and_both_are_the_score(problem):
    net, y = problem
    bottom, top = (removal_order(net, y, strategy, **TRAIN) for strategy in ("bottom", "top"))
    assert torch.equal(bottom, top.flip(0))
    assert torch.equal(bottom, f_si(net, y, **TRAIN).argsort())


def test_iterative_is_bottom_at_first_and_the_definition_after(problem):
    net, y = problem
    order = removal_order(net, y, "bottom iterative", **TRAIN, every=0.1, until=0.5)
    assert torch.equal(order[:4], removal_order(net, y, "bottom", **TRAIN)[:4])
    left = torch.arange(40)
    for start in range(0, 20, 4):
        score = f_si(part(net, left), y[left], **TRAIN)
        assert torch.equal(order[start : start + 4], left[score.argsort()[:4]])
        left = left[score.argsort()[4:].sort()[0]]


def test_joint_takes_what_the_group_misses_least(problem):
    """One at a time is the definition, and the first is the least informative."""
    net, y = problem
    order = removal_order(net, y, "joint", **TRAIN, every=1 / 40, until=0.25)
    whole, left = fitted(net, y, **TRAIN), torch.arange(40)
    assert order[0] == removal_order(net, y, "bottom", **TRAIN)[0]
    for chosen in order[:10]:
        costs = torch.stack([(whole - fitted(part(net, left[left != i]), y[left[left != i]], **_mean(left, 40)))
                             .square().sum() for i in left])  # fmt: skip
        near = costs.sort()[0][:3]
        assert costs[left == chosen] <= near[2] * 1.05  # η/n of those kept, not of one fewer: nearly the same
        left = left[left != chosen]


def _mean(left, n):
    """The learning rate at which rows with one fewer keep the step of an example."""
    return {"lr": TRAIN["lr"] * (len(left) - 1) / len(left), "steps": TRAIN["steps"]}


def test_joint_leaves_the_predictions_nearer_than_iterative(problem):
    net, y = problem
    whole = fitted(net, y, **TRAIN)
    gap = {}
    for strategy in ("bottom", "bottom iterative", "joint"):
        left = kept(removal_order(net, y, strategy, **TRAIN), 0.7)
        gap[strategy] = float((whole - fitted(part(net, left), y[left], **TRAIN)).norm())
    assert gap["joint"] < min(gap["bottom iterative"], gap["bottom"])


def test_within_a_round_changes_add_up(problem):
    net, y = problem
    each = changes(net, y, **TRAIN)
    order = removal_order(net, y, "joint", **TRAIN, every=0.5, until=0.5)
    gap, left = torch.zeros_like(each[0]), list(range(40))
    for chosen in order[:20].tolist():
        costs = [float((gap + each[i]).square().sum()) for i in left]
        assert left[costs.index(min(costs))] == chosen
        gap, left = gap + each[chosen], [i for i in left if i != chosen]


def test_accuracies_are_counted_on_the_test_rows_alone():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=generator)
    y = (x[:, 0] > 0).long()
    y[40:50] = 1 - y[40:50]  # judged by these, what is learnt is wrong
    plans = [
        {"train": torch.arange(40), "test": torch.arange(40, 50), "seed": 0, "name": "wrong"},
        {"train": torch.arange(40), "test": torch.arange(50, 60), "seed": 0, "name": "right"},
        {"train": torch.arange(4), "test": torch.arange(50, 60), "seed": 1, "name": "few"},
    ]
    recipe = Recipe(lr=0.3, iterations=200, batch_size=16, loss="mse")
    table = accuracies(models.mlp(4, (), 1), x, y, plans, recipe=recipe, run=Run(progress=False))
    assert list(table.columns) == ["seed", "name", "kept", "accuracy"]
    assert table.kept.tolist() == [40, 40, 4]
    assert table.accuracy[0] <= 0.2 and table.accuracy[1] >= 0.8


def test_gaps_are_seed_by_seed_in_points():
    rows = [("random", 0.0, 0, 0.9), ("random", 0.0, 1, 0.8), ("random", 0.5, 0, 0.7), ("random", 0.5, 1, 0.6),
            ("top", 0.5, 0, 0.6), ("top", 0.5, 1, 0.3)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["strategy", "removed", "seed", "accuracy"])
    assert points(table, "top").loc[0.5].tolist() == pytest.approx([60, 30])
    assert gap(table, "random", "top").loc[0.5].tolist() == pytest.approx([10, 30])
    assert gap(table, "top", "all").loc[0.5].tolist() == pytest.approx([-30, -50])
    with pytest.raises(ValueError, match="strategy must be one of random, top, got 'joint'"):
        points(table, "joint")


def test_refusals(problem):
    net, y = problem
    with pytest.raises(ValueError, match="strategy must be one of bottom, .*, got 'middle'"):
        removal_order(net, y, "middle", **TRAIN)
    with pytest.raises(ValueError, match="0 < every ≤ until < 1"):
        removal_order(net, y, "joint", **TRAIN, every=0.5, until=0.2)
    with pytest.raises(ValueError, match="removed must be a share"):
        kept(torch.arange(3), 1.0)
    plan = {"train": torch.arange(3), "test": torch.arange(2, 5), "seed": 0}
    with pytest.raises(ValueError, match="plan 0 must train on some examples and be tested on others"):
        accuracies(models.mlp(4, (), 1), torch.zeros(6, 4), torch.zeros(6).long(), [plan], recipe=None)


def test_draws_of_the_same_rows_are_worth_less():
    values = [0.5, 0.7, 0.6, 0.65]
    assert redrawn_interval(values, share=0) == pytest.approx(t_interval(values))
    low, high = redrawn_interval(values, share=200 / 600)
    alone = t_interval(values)
    assert (high - low) / (alone[1] - alone[0]) == pytest.approx((1 + 4 / 3) ** 0.5)


def test_the_widened_interval_covers_where_the_same_rows_are_shuffled():
    """Means of 60 of the same 100 rows, over ten seeds: Student's interval covers little, the widened one more."""
    rng, covered = np.random.default_rng(0), []
    for _ in range(300):
        rows = rng.standard_normal(100)
        tested = [rng.permutation(rows)[:25].mean() for _ in range(10)]
        ends = t_interval(tested), redrawn_interval(tested, share=25 / 75)
        covered.append([low < 0 < high for low, high in ends])
    student, widened = np.mean(covered, 0)
    assert student < 0.75 and 0.93 < widened < 0.98
